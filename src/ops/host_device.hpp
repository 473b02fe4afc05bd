// Marks functions that the host's code and the GPU's kernels share. Always inlined: translation units compiled for
// wider instruction sets include such headers, too, and must not leave their code to others.
#pragma once

#ifdef __CUDACC__
#define FLEXGEN_HOST_DEVICE __host__ __device__ __forceinline__
#define FLEXGEN_UNROLL _Pragma("unroll")
#else
#define FLEXGEN_HOST_DEVICE [[gnu::always_inline]] inline
#define FLEXGEN_UNROLL
#endif
