#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Starts and stops the peers in the guest.
#   peers.sh ext4 DEV MNT     ext4 with DAX on a pmem device
#   peers.sh nfs-server NS DIR ADDRESS  NFS 4.2 out of a namespace, TCP and, if it can, RDMA
#   peers.sh nfs-mount NS ADDRESS MNT tcp|rdma
# One line on stderr says why something does not start.
set -u

fail() {
	echo "$*" >&2
	exit 1
}

case $1 in
ext4)
	mkfs.ext4 -q -F -b 4096 "$2" >/dev/null || fail "mkfs.ext4 failed"
	mkdir -p "$3"
	mount -o dax=always "$2" "$3" || mount -o dax "$2" "$3" || fail "ext4 does not mount with dax"
	;;
nfs-server)
	modprobe nfsd 2>/dev/null
	modprobe -q rpcrdma
	command -v rpc.nfsd >/dev/null || fail "no rpc.nfsd (nfs-kernel-server) in the root"
	grep -qw nfsd /proc/filesystems || fail "the kernel has no nfsd"
	mkdir -p /var/lib/nfs/v4recovery /var/lib/nfs/rpc_pipefs /run/rpcbind /run/nfs
	: >>/var/lib/nfs/etab
	: >>/var/lib/nfs/rmtab
	export DIR=$3
	# A mount namespace of its own: /proc/fs/nfsd belongs to the network namespace.
	# shellcheck disable=SC2016 # the inner shell expands it
	exec nsenter --net="/run/netns/$2" unshare -m bash -c '
		mount -t nfsd nfsd /proc/fs/nfsd || { echo "no nfsd file system" >&2; exit 1; }
		echo 10 >/proc/fs/nfsd/nfsv4leasetime 2>/dev/null
		echo 10 >/proc/fs/nfsd/nfsv4gracetime 2>/dev/null
		exportfs -o rw,sync,no_root_squash,insecure,fsid=0,no_subtree_check "*:$DIR" || exit 1
		rpc.mountd --no-nfs-version 3 --foreground >/run/nfs/mountd.log 2>&1 &
		rpc.nfsd --no-udp --no-nfs-version 3 --nfs-version 4.2 --grace-time 10 --lease-time 10 4 ||
			{ echo "rpc.nfsd failed" >&2; exit 1; }
		echo "rdma 20049" >/proc/fs/nfsd/portlist 2>/dev/null || echo "NFS over RDMA does not listen" >&2
		echo 1 >/proc/fs/nfsd/v4_end_grace 2>/dev/null
		sleep infinity </dev/null >/dev/null 2>&1'
	;;
nfs-mount)
	modprobe -q nfsv4
	mkdir -p "$4"
	options=vers=4.2,proto=$5,hard,timeo=100,sec=sys
	if [ "$5" = rdma ]; then options=$options,port=20049; fi
	nsenter --net="/run/netns/$2" timeout 60 mount -t nfs4 -o "$options" "$3:/" "$4" ||
		fail "NFS over $5 does not mount"
	;;
esac
