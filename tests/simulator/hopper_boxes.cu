// One box of a tensor, or one run of bytes, in each direction. The tests put in RANK (1 to 5) and AXES, the
// coordinates as operands %3 and up.
struct Place { int at[5]; };
#define COORDINATES "r"(place.at[0]), "r"(place.at[1]), "r"(place.at[2]), "r"(place.at[3]), "r"(place.at[4])

__device__ __forceinline__ void start(u64* b, u32 bytes) {
  barrier_init(b, 1);
  barrier_fence();
  barrier_expect(b, bytes);
}

// Loads a box to byte `offset` of shared memory and dumps `size` bytes of it from its start.
extern "C" __global__ void load_box(const __grid_constant__ TensorMap map, uint4* out, Place place, int offset,
                                    int bytes, int size) {
  __shared__ u64 full;
  const int t = threadIdx.x;
  for (int i = t; i < size / 16; i += blockDim.x) ((uint4*)shared)[i] = make_uint4(~0, ~0, ~0, ~0);
  proxy_fence();
  if (t == 0) start(&full, bytes);
  __syncthreads();
  if (t == 0)
    asm volatile("cp.async.bulk.tensor." RANK "d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {" AXES "}], [%2];" ::"r"(shared_address(shared + offset)), "l"(&map),
                 "r"(shared_address(&full)), COORDINATES : "memory");
  barrier_wait(&full, 0);
  for (int i = t; i < size / 16; i += blockDim.x) out[i] = ((uint4*)shared)[i];
}

// Stores `size` bytes of shared memory, filled from `in`, as the box at `place`.
extern "C" __global__ void store_box(const __grid_constant__ TensorMap map, const uint4* in, Place place, int size) {
  const int t = threadIdx.x;
  for (int i = t; i < size / 16; i += blockDim.x) ((uint4*)shared)[i] = in[i];
  proxy_fence();
  __syncthreads();
  if (t == 0) {
    asm volatile("cp.async.bulk.tensor." RANK "d.global.shared::cta.tile.bulk_group [%1, {" AXES "}], [%0];"
                 ::"r"(shared_address(shared)), "l"(&map), "r"(0), COORDINATES : "memory");
    bulk_commit();
    bulk_wait_read<0>();
  }
}

extern "C" __global__ void load_bytes(const char* in, uint4* out, int from, int to, int bytes, int size) {
  __shared__ u64 full;
  const int t = threadIdx.x;
  for (int i = t; i < size / 16; i += blockDim.x) ((uint4*)shared)[i] = make_uint4(~0, ~0, ~0, ~0);
  proxy_fence();
  if (t == 0) start(&full, bytes);
  __syncthreads();
  if (t == 0) bulk_load(shared + to, in + from, bytes, &full);
  barrier_wait(&full, 0);
  for (int i = t; i < size / 16; i += blockDim.x) out[i] = ((uint4*)shared)[i];
}

extern "C" __global__ void store_bytes(const uint4* in, char* out, int from, int to, int bytes, int size) {
  const int t = threadIdx.x;
  for (int i = t; i < size / 16; i += blockDim.x) ((uint4*)shared)[i] = in[i];
  proxy_fence();
  __syncthreads();
  if (t == 0) {
    bulk_store(out + to, shared + from, bytes);
    bulk_commit();
    bulk_wait_read<0>();
  }
}
