// One wgmma by one warpgroup: operands come as an image of shared memory, A perhaps in registers. The tests put
// in COUNT (accumulators), SCALE (the name of the wrapper's scale operand, if any) and CALL.
extern "C" __global__ void __launch_bounds__(128)
multiply(const uint4* image, int chunks, u64 a_rest, u64 b_rest, int a_offset, int b_offset, const u32* left,
         const u32* codes, float* sums) {
  const int t = threadIdx.x;
  for (int i = t; i < chunks; i += 128) ((uint4*)shared)[i] = image[i];
  proxy_fence();
  __syncthreads();
  const u64 a_descriptor = a_rest | (u64)(shared_address(shared) + a_offset >> 4);
  const u64 b_descriptor = b_rest | (u64)(shared_address(shared) + b_offset >> 4);
  float d[COUNT];
  for (int i = 0; i < COUNT; ++i) d[i] = sums[i * 128 + t];
  u32 a[4];
  for (int i = 0; i < 4; ++i) a[i] = left[i * 128 + t];
  const u32 code = codes[t];
  pin(d);
  matrix_fence();
  CALL;
  matrix_commit();
  matrix_wait<0>();
  pin(d);
  for (int i = 0; i < COUNT; ++i) sums[i * 128 + t] = d[i];
}
