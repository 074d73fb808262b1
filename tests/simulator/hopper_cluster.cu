// A cluster of two CTAs shares what it loads: rank r fetches half r of every step for both. One stage, so that a
// step may overwrite the last only when both CTAs have read it.
__device__ __forceinline__ u32 of_rank(const void* p, u32 rank) {
  u32 r;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(shared_address(p)), "r"(rank));
  return r;
}
__device__ __forceinline__ void remote_arrive(u32 b) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(b) : "memory");
}
__device__ __forceinline__ void wait_cluster(u64* b, u32 parity) {
  asm volatile("{\n.reg .pred p;\nWAIT: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n"
               "@p bra DONE;\nbra WAIT;\nDONE:\n}\n" ::"r"(shared_address(b)), "r"(parity) : "memory");
}
__device__ __forceinline__ void multicast(void* to, const void* from, u32 bytes, u64* b, u16 mask) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
               "[%0], [%1], %2, [%3], %4;" ::"r"(shared_address(to)), "l"(from), "r"(bytes),
               "r"(shared_address(b)), "h"(mask) : "memory");
}
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

constexpr int kHalf = 256;  // bytes that one rank fetches in a step
extern "C" __global__ void __cluster_dims__(2, 1, 1) share(const char* in, int* out, int steps) {
  __shared__ __align__(128) int tile[2 * kHalf / 4];
  __shared__ u64 full, empty;
  const int t = threadIdx.x;
  u32 rank, cluster;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(cluster));
  if (t == 0) {
    barrier_init(&full, 1);
    barrier_init(&empty, 2);
    barrier_fence();
  }
  cluster_arrive();
  cluster_wait();
  for (int step = 0; step < steps; ++step) {
    if (t == 0) {
      wait_cluster(&empty, step + 1 & 1);
      barrier_expect(&full, 2 * kHalf);
      multicast(tile + rank * (kHalf / 4), in + ((cluster * steps + step) * 2 + rank) * kHalf, kHalf, &full, 3);
    }
    __syncwarp();
    barrier_wait(&full, step & 1);
    for (int i = t; i < 2 * kHalf / 4; i += 32) out[(blockIdx.x * steps + step) * (2 * kHalf / 4) + i] = tile[i];
    __syncwarp();
    if (t < 2) remote_arrive(of_rank(&empty, t));
  }
  cluster_arrive();
  cluster_wait();
}
