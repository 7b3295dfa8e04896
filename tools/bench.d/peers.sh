#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Starts and stops the peers in the guest.
#   peers.sh ext4 DEV MNT     ext4 with DAX on a pmem device
#   peers.sh nfs-server NS DIR ADDRESS  NFS 4.2 out of a namespace, TCP and, if it can, RDMA
#   peers.sh nfs-mount NS ADDRESS MNT tcp|rdma
#   peers.sh path             two addresses with a network like the lab's between them
#   peers.sh nvme-rdma|nvme-tcp|rnbd|nbd  a disk at the other end of it; prints its device
#   peers.sh ramdisk|zram     a device for swap; prints it
#   peers.sh end              ends the sessions of the disks
# One line on stderr says why something does not start.
set -u

client=10.66.0.1
server=10.66.0.2
# What the disks have behind them: nbd-server has it in the page cache, the others beside it.
backing=/dev/ram0
nbd_backing=/dev/ram1
swap_backing=/dev/ram2
nqn=nqn.2026-11.org.potluck:bench

fail() {
	echo "$*" >&2
	exit 1
}

# MODULE...
loaded() {
	local module
	for module in "$@"; do
		modprobe -q "$module" || fail "the kernel has no $module"
	done
}

# DEVICE: written to once, as the disks that it is compared with are. Empty pages cost nothing to read.
written() {
	[ -b "$1" ] || fail "no $1"
	dd if=/dev/urandom of="$1" bs=1M count=48 oflag=direct status=none || fail "$1 cannot be written to"
}

# CMD...: until it prints something, 10 s at most.
await() {
	local found i
	for ((i = 0; i < 50; i++)); do
		found=$("$@" 2>/dev/null)
		if [ -n "$found" ]; then
			echo "$found"
			return
		fi
		sleep 0.2
	done
	fail "nothing after 10 s: $*"
}

# nvme-rdma, nvmet-rdma and rnbd know only the initial namespace, so both ends are there: veth, bridge, veth, as in the
# lab, and rules that send packets between two local addresses over it.
make_path() {
	local end
	ip link add peers0 type bridge
	ip link set peers0 mtu 9000 up
	for end in 0 1; do
		ip link add "peer$end" mtu 9000 type veth peer name "peerb$end" mtu 9000 || fail "no veth"
		ip link set "peerb$end" master peers0 up
		ip link set "peer$end" up
		sysctl -q -w "net.ipv4.conf.peer$end.accept_local=1" "net.ipv4.conf.peer$end.rp_filter=0"
	done
	sysctl -q -w net.ipv4.conf.all.rp_filter=0
	ip addr add $client/32 dev peer0
	ip addr add $server/32 dev peer1
	ip route add $server dev peer0 src $client table 101
	ip route add $client dev peer1 src $server table 102
	ip rule add pref 10 iif peer0 lookup local
	ip rule add pref 10 iif peer1 lookup local
	ip rule add pref 20 to $server lookup 101
	ip rule add pref 20 to $client lookup 102
	ip rule add pref 30 lookup local
	ip rule del pref 0
	ip neigh replace $server lladdr "$(cat /sys/class/net/peer1/address)" dev peer0 nud permanent
	ip neigh replace $client lladdr "$(cat /sys/class/net/peer0/address)" dev peer1 nud permanent
	ping -q -c 1 -W 2 -I $client $server >/dev/null || fail "no way from $client to $server"
	modprobe -q rdma_rxe
	for end in 0 1; do
		rdma link add "rxpeer$end" type rxe netdev "peer$end" || fail "no rxe device"
	done
}

nvme_device() { # TRANSPORT
	local controller
	for controller in /sys/class/nvme/nvme*; do
		[ "$(cat "$controller/transport" 2>/dev/null)" = "$1" ] || continue
		[ "$(cat "$controller/state")" = live ] || continue
		find "$controller/" -maxdepth 1 -name 'nvme*n*' -printf '/dev/%f\n' | head -n 1
	done
}

nvme() { # TRANSPORT PORT
	local top=/sys/kernel/config/nvmet subsystem port=$2
	loaded "nvmet-$1" "nvme-$1"
	written $backing
	# One of its own, so that it is a disk of its own and no second path to the other's.
	subsystem=$nqn-$1
	mkdir -p "$top/subsystems/$subsystem/namespaces/1" "$top/ports/$port"
	echo 1 >"$top/subsystems/$subsystem/attr_allow_any_host"
	echo $backing >"$top/subsystems/$subsystem/namespaces/1/device_path"
	echo 1 >"$top/subsystems/$subsystem/namespaces/1/enable" || fail "nvmet does not take $backing"
	echo "$1" >"$top/ports/$port/addr_trtype"
	echo ipv4 >"$top/ports/$port/addr_adrfam"
	echo $server >"$top/ports/$port/addr_traddr"
	echo "$port" >"$top/ports/$port/addr_trsvcid"
	ln -s "$top/subsystems/$subsystem" "$top/ports/$port/subsystems/$subsystem" || fail "nvmet does not listen with $1"
	command nvme connect -t "$1" -a $server -s "$port" -w $client -n "$subsystem" -i 2 \
		-q nqn.2026-11.org.potluck:host -I 5c1f3a57-8a4e-4c1c-b1f8-3f7d1d9b7a10 >/run/nvme.log 2>&1 ||
		fail "nvme connect -t $1: $(tail -n 1 /run/nvme.log)"
	await nvme_device "$1"
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
path) make_path ;;
nvme-rdma) nvme rdma 4420 ;;
nvme-tcp) nvme tcp 4421 ;;
rnbd)
	loaded rnbd_server rnbd_client
	written $backing
	map=$(find /sys/class/rnbd-client/ctl/ -name map_device | head -n 1)
	[ -n "$map" ] || fail "rnbd_client has no map_device"
	echo "sessname=bench path=ip:$client@ip:$server device_path=$backing" 2>/run/rnbd.log >"$map" ||
		fail "rnbd does not map $backing: $(dmesg | grep -E 'rnbd|rtrs' | tail -n 1)"
	await find /dev -maxdepth 1 -name 'rnbd[0-9]*'
	;;
nbd)
	loaded nbd
	written $nbd_backing
	nbd-server $server:10809 $nbd_backing -C /dev/null >/run/nbd.log 2>&1 || fail "nbd-server: $(tail -n 1 /run/nbd.log)"
	sleep 1
	timeout 20 nbd-client $server 10809 /dev/nbd0 -b 4096 >>/run/nbd.log 2>&1 || fail "nbd-client: $(tail -n 1 /run/nbd.log)"
	echo /dev/nbd0
	;;
ramdisk)
	[ -b $swap_backing ] || fail "no $swap_backing"
	echo $swap_backing
	;;
zram)
	loaded zram
	echo $((64 << 20)) >/sys/block/zram0/disksize || fail "zram0 takes no size"
	echo /dev/zram0
	;;
end)
	command nvme disconnect-all >/dev/null 2>&1
	nbd-client -d /dev/nbd0 >/dev/null 2>&1
	for device in /sys/block/rnbd*/rnbd/unmap_device; do
		[ -e "$device" ] && echo normal >"$device"
	done
	exit 0
	;;
*) fail "no peer called $1" ;;
esac
