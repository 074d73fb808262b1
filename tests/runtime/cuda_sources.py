"""Small CUDA sources that the runtime's tests compile, and the targets they compile for."""

from samoyeds_gen.runtime import Build, Cache, compile_source

TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a")

SAXPY = """\
extern "C" __global__ void saxpy(float *y, const float *x, float a, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] + y[i];
}
"""

# 64 live values per thread: at most 32 registers cannot hold them.
HEAVY = """\
extern "C" __global__ void heavy(float *y, const float *x, int n) {
  __shared__ float s[64];
  float v[64];
#pragma unroll
  for (int i = 0; i < 64; i++) v[i] = x[threadIdx.x + i * n];
  s[threadIdx.x & 63] = v[0];
  __syncthreads();
#pragma unroll
  for (int r = 0; r < 4; r++)
#pragma unroll
    for (int i = 0; i < 64; i++) v[i] = v[i] * v[(i * 7 + 3) & 63] + v[(i + r + 11) & 63];
#pragma unroll
  for (int i = 0; i < 64; i++) y[threadIdx.x + i * n] = v[i] + s[i];
}
"""

# An array indexed by a run-time value lies in local memory: a stack frame without a spill.
INDEXED = """\
extern "C" __global__ void indexed(float *y, const float *x, int n) {
  float v[16];
#pragma unroll
  for (int i = 0; i < 16; i++) v[i] = x[threadIdx.x + i * n];
#pragma unroll 1
  for (int i = 0; i < n; i++) v[i * 5 & 15] += v[i & 15];
  y[threadIdx.x] = v[n & 15];
}
"""

# Accumulators of an asynchronous wgmma touched before its wait: ptxas serialises and says so.
SERIALISED_WGMMA = """\
extern "C" __global__ void __launch_bounds__(128) serialised(
    float *o, const float *p, unsigned long long left, unsigned long long right, int n) {
  float a = p[0], b = p[1], c = p[2], d = p[3];
  for (int i = 0; i < n; i++) {
    asm volatile("wgmma.fence.sync.aligned;");
    asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;"
                 : "+f"(a), "+f"(b), "+f"(c), "+f"(d) : "l"(left), "l"(right));
    asm volatile("wgmma.commit_group.sync.aligned;");
    a *= p[i];
  }
  asm volatile("wgmma.wait_group.sync.aligned 0;");
  o[threadIdx.x] = a + b + c + d;
}
extern "C" __global__ void calm(float *o) { *o = 1; }
"""

# A device function that is not inlined, spilling on its own account.
CALLED = """\
extern "C" __device__ __noinline__ float inner(const float *x, int n) {
  float v[48], sum = 0;
#pragma unroll
  for (int i = 0; i < 48; i++) v[i] = x[i * n];
#pragma unroll
  for (int r = 0; r < 3; r++)
#pragma unroll
    for (int i = 0; i < 48; i++) v[i] = v[i] * v[(i * 5 + 1) % 48] + v[(i + r + 7) % 48];
#pragma unroll
  for (int i = 0; i < 48; i++) sum += v[i];
  return sum;
}
extern "C" __global__ void outer(float *y, const float *x, int n) { *y = inner(x, n); }
"""

ALL_KINDS = """\
struct alignas(64) Map { unsigned long long word[16]; };
struct Small { short a; char b; };
extern "C" __global__ void all_kinds(long long *out, const __grid_constant__ Map map, int i,
                                     long long l, float f, char c, double d, short h,
                                     unsigned u, Small s, unsigned long long v, bool flag) {
  if (threadIdx.x != 0) return;
  for (int j = 0; j < 16; j++) out[j] = (long long)map.word[j];
  out[16] = i; out[17] = l; out[18] = (long long)(f * 4); out[19] = c;
  out[20] = (long long)(d * 8); out[21] = h; out[22] = u; out[23] = s.a * 256 + s.b;
  out[24] = (long long)v; out[25] = flag;
}
"""

BIG_SHARED = """\
extern "C" __global__ void __launch_bounds__(256) reverse(int *out, const int *in, int n) {
  extern __shared__ int tile[];
  for (int i = threadIdx.x; i < n; i += 256) tile[i] = in[blockIdx.x * n + i];
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += 256) out[blockIdx.x * n + i] = tile[n - 1 - i];
}
"""

SLOW_FILL = """\
extern "C" __global__ void slow_fill(int *p, int value, long long cycles) {
  long long began = clock64();
  while (clock64() - began < cycles) {}
  *p = value;
}
extern "C" __global__ void add_one(int *q, const int *p) { *q = *p + 1; }
"""

CLUSTER_RANK = """\
extern "C" __global__ void cluster_rank(int *out) {
  int rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  out[blockIdx.x] = rank;
}
"""

WILD_WRITE = """\
extern "C" __global__ void wild_write(int *p) { *p = 1; }
"""

FOR_ANY_TARGET = (SAXPY, HEAVY, CALLED, ALL_KINDS, BIG_SHARED, SLOW_FILL, WILD_WRITE)
FOR_HOPPER = (*FOR_ANY_TARGET, SERIALISED_WGMMA, CLUSTER_RANK)


def compile_saxpy(cache: Cache | None, **changes) -> Build:
    wanted = {"name": "saxpy.cu", "target": "sm_80", "options": ()} | changes
    source = wanted.pop("source", SAXPY)
    return compile_source(source, cache=cache, **wanted)
