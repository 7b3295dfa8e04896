// SPDX-License-Identifier: GPL-2.0

#ifdef CONFIG_RUST_UDP_ABSTRACTIONS

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/skbuff.h>
#include <linux/udp.h>
#include <net/dst.h>
#include <net/ipv6.h>
#include <net/route.h>
#include <net/sock.h>

__rust_helper void *rust_helper_rcu_dereference_sk_user_data(struct sock *sk)
{
	return rcu_dereference_sk_user_data(sk);
}

__rust_helper void rust_helper_rcu_assign_sk_user_data(struct sock *sk,
						       void *ptr)
{
	rcu_assign_sk_user_data(sk, ptr);
}

__rust_helper struct sk_buff *rust_helper_alloc_skb(unsigned int size,
						    gfp_t priority)
{
	return alloc_skb(size, priority);
}

__rust_helper void rust_helper_skb_reserve(struct sk_buff *skb, int len)
{
	skb_reserve(skb, len);
}

__rust_helper void rust_helper_kfree_skb(struct sk_buff *skb)
{
	kfree_skb(skb);
}

__rust_helper void rust_helper_consume_skb(struct sk_buff *skb)
{
	consume_skb(skb);
}

__rust_helper int rust_helper_skb_linearize(struct sk_buff *skb)
{
	return skb_linearize(skb);
}

__rust_helper struct udphdr *rust_helper_udp_hdr(const struct sk_buff *skb)
{
	return udp_hdr(skb);
}

__rust_helper struct iphdr *rust_helper_ip_hdr(const struct sk_buff *skb)
{
	return ip_hdr(skb);
}

__rust_helper struct ipv6hdr *rust_helper_ipv6_hdr(const struct sk_buff *skb)
{
	return ipv6_hdr(skb);
}

__rust_helper int rust_helper_inet6_iif(const struct sk_buff *skb)
{
	return inet6_iif(skb);
}

__rust_helper int rust_helper_ip6_sock_set_v6only(struct sock *sk)
{
	return ip6_sock_set_v6only(sk);
}

__rust_helper u32 rust_helper_dst_mtu(const struct dst_entry *dst)
{
	return dst_mtu(dst);
}

__rust_helper int rust_helper_ip4_dst_hoplimit(const struct dst_entry *dst)
{
	return ip4_dst_hoplimit(dst);
}

#endif /* CONFIG_RUST_UDP_ABSTRACTIONS */
