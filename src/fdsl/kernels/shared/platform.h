// What differs between the C++ compilers of the host and the CUDA compiler: nothing else may.
#pragma once

#if defined(__CUDACC_RTC__)
#include <cuda/std/cstdint>
using cuda::std::int32_t;
using cuda::std::int64_t;
using cuda::std::uint16_t;
using cuda::std::uint32_t;
using cuda::std::uint64_t;
using cuda::std::uint8_t;
using cuda::std::uintptr_t;
#else
#include <cstdint>
#endif

// Internal linkage, or inlined where it is called: a copy compiled for AVX-512 must never be linked into code for older
// machines. A table is an array that a kernel indexes.
#if defined(__CUDACC__)
#define FDSL_MEMBER __host__ __device__ __forceinline__
#define FDSL_TABLE __device__ constexpr
#else
#define FDSL_MEMBER inline __attribute__((always_inline))
#define FDSL_TABLE constexpr
#endif
#define FDSL_INLINE static FDSL_MEMBER

namespace fdsl {

// Rounded once, on every machine; all other products and sums here are rounded one by one, which compilers must be
// told: -ffp-contract=off, and --fmad=false to CUDA's.
#if defined(__CUDACC__)
FDSL_INLINE float fused(float a, float b, float c) { return fmaf(a, b, c); }
FDSL_INLINE double square_root(double a) { return sqrt(a); }
#else
FDSL_INLINE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
FDSL_INLINE double square_root(double a) { return __builtin_sqrt(a); }
#endif

}  // namespace fdsl
