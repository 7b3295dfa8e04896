// SPDX-License-Identifier: GPL-2.0

#if IS_ENABLED(CONFIG_INFINIBAND)

#include <rdma/ib_verbs.h>

__rust_helper bool rust_helper_ib_device_try_get(struct ib_device *dev)
{
	return ib_device_try_get(dev);
}

__rust_helper int rust_helper_ib_post_send(struct ib_qp *qp,
					   const struct ib_send_wr *wr,
					   const struct ib_send_wr **bad_wr)
{
	return ib_post_send(qp, wr, bad_wr);
}

__rust_helper int rust_helper_ib_post_recv(struct ib_qp *qp,
					   const struct ib_recv_wr *wr,
					   const struct ib_recv_wr **bad_wr)
{
	return ib_post_recv(qp, wr, bad_wr);
}

__rust_helper u64 rust_helper_ib_dma_map_single(struct ib_device *dev,
						void *cpu_addr, size_t size,
						enum dma_data_direction dir)
{
	return ib_dma_map_single(dev, cpu_addr, size, dir);
}

__rust_helper void rust_helper_ib_dma_unmap_single(struct ib_device *dev,
						   u64 addr, size_t size,
						   enum dma_data_direction dir)
{
	ib_dma_unmap_single(dev, addr, size, dir);
}

__rust_helper int rust_helper_ib_dma_mapping_error(struct ib_device *dev,
						   u64 addr)
{
	return ib_dma_mapping_error(dev, addr);
}

__rust_helper void
rust_helper_ib_dma_sync_single_for_cpu(struct ib_device *dev, u64 addr,
				       size_t size, enum dma_data_direction dir)
{
	ib_dma_sync_single_for_cpu(dev, addr, size, dir);
}

__rust_helper void
rust_helper_ib_dma_sync_single_for_device(struct ib_device *dev, u64 addr,
					  size_t size,
					  enum dma_data_direction dir)
{
	ib_dma_sync_single_for_device(dev, addr, size, dir);
}

__rust_helper void rust_helper_sg_set_buf(struct scatterlist *sg,
					  const void *buf, unsigned int buflen)
{
	sg_set_buf(sg, buf, buflen);
}

__rust_helper int rust_helper_ib_dma_map_sg(struct ib_device *dev,
					    struct scatterlist *sg, int nents,
					    enum dma_data_direction dir)
{
	return ib_dma_map_sg(dev, sg, nents, dir);
}

__rust_helper void rust_helper_ib_dma_unmap_sg(struct ib_device *dev,
					       struct scatterlist *sg,
					       int nents,
					       enum dma_data_direction dir)
{
	ib_dma_unmap_sg(dev, sg, nents, dir);
}

__rust_helper void rust_helper_ib_update_fast_reg_key(struct ib_mr *mr,
						      u8 newkey)
{
	ib_update_fast_reg_key(mr, newkey);
}

#endif /* CONFIG_INFINIBAND */
