// A block of threads as a row of phases, each of which all threads end before any begins the next: on a GPU with a
// barrier between them, on the host (tests) thread after thread. A kernel's body is written once:
//
//   FDSL_INLINE void draw(const Block& block, const DrawTask& task, void* out) {
//     auto& sum = block.shared<int32_t>();
//     Block::Local<int32_t> mine;                             // outlives a phase: a register, or one a thread
//     block.each([&](int thread) { if (thread == 0) sum = 0; mine[thread] = thread; });
//     block.each([&](int thread) { atomic_add(&sum, mine[thread]); });
//   }
//   FDSL_KERNEL(draw, DrawTask)
//
// Within a phase threads meet in atomic operations only, whose results depend on no order. What all threads branch on
// around a phase must be the same for all: of the task, of shared memory, of the block's number.
#pragma once

#include "shared/platform.h"

namespace fdsl {

constexpr int THREADS = 256;             // of a block: one a trajectory
constexpr uint32_t RAISED = 0x4B000000;  // bits of 2^23 as float

#if defined(__CUDACC__)

class Block {
 public:
  template <class T>
  struct Local {
    T value;
    FDSL_MEMBER T& operator[](int) { return value; }
  };
  FDSL_MEMBER int number() const { return static_cast<int>(blockIdx.x); }
  template <class T>
  FDSL_MEMBER T& shared() const {
    extern __shared__ uint4 memory[];
    return *reinterpret_cast<T*>(memory);
  }
  template <class Phase>
  FDSL_MEMBER void each(Phase phase) const {
    phase(static_cast<int>(threadIdx.x));
    __syncthreads();
  }
};

#define FDSL_PRAGMA(...) _Pragma(#__VA_ARGS__)
#define FDSL_UNROLL _Pragma("unroll")
#define FDSL_UNROLL_BY(count) FDSL_PRAGMA(unroll count)
// What runs once in a while: compiled once, however many kernels of a source call it.
#define FDSL_COLD static __device__ __noinline__
#define FDSL_SIZE(name, ...)
// FDSL_KERNEL(name, Task, blocks): a multiprocessor's registers hold so many blocks, where that is said.
#define FDSL_KERNEL(name, Task, ...)                                                     \
  extern "C" __global__ void __launch_bounds__(fdsl::THREADS __VA_OPT__(, ) __VA_ARGS__) \
      name(const void* task, void* out) {                                                \
    fdsl::name(fdsl::Block(), *static_cast<const fdsl::Task*>(task), out);               \
  }

FDSL_INLINE void atomic_or(uint32_t* to, uint32_t bits) { atomicOr(to, bits); }
FDSL_INLINE void atomic_max(uint32_t* to, uint32_t value) { atomicMax(to, value); }
FDSL_INLINE void atomic_max(int32_t* to, int32_t value) { atomicMax(to, value); }
FDSL_INLINE void atomic_min(int32_t* to, int32_t value) { atomicMin(to, value); }
FDSL_INLINE void atomic_add(uint32_t* to, uint32_t value) { atomicAdd(to, value); }
FDSL_INLINE void atomic_add(int32_t* to, int32_t value) { atomicAdd(to, value); }
FDSL_INLINE void atomic_add(int64_t* to, int64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
}
FDSL_INLINE int population(uint32_t bits) { return __popc(bits); }
// Bits `shift` to shift + 31 of high:low; shift is under 32.
FDSL_INLINE uint32_t funnel(uint32_t low, uint32_t high, int shift) { return __funnelshift_r(low, high, shift); }
// The low three bits, in a way that keeps the compiler from taking what they index apart: rows come in one load.
FDSL_INLINE uint32_t low_bits(uint32_t word) {
  uint32_t bits;
  asm("and.b32 %0, %1, 7;" : "=r"(bits) : "r"(word));
  return bits;
}
FDSL_INLINE int32_t float_bits(float value) { return __float_as_int(value); }
FDSL_INLINE float bits_float(int32_t bits) { return __int_as_float(bits); }
// Bits of value + 2^23, rounded down: RAISED + the whole part of 0 <= value < 2^23, and far from them of anything else.
// One operation of those that go at full rate, where a conversion goes at a quarter of it.
FDSL_INLINE uint32_t raised(float value) { return __float_as_uint(__fadd_rd(value, 0x1p23f)); }
// Toward zero; what no int32 holds comes to an end of its range, and a NaN to zero.
FDSL_INLINE int32_t truncated(float value) { return __float2int_rz(value); }
FDSL_INLINE float rounded_down(float value) { return floorf(value); }
// Of numbers, where no NaN is; which of two zeros, nobody knows.
FDSL_INLINE float lesser(float a, float b) { return fminf(a, b); }
FDSL_INLINE float greater(float a, float b) { return fmaxf(a, b); }
template <int BYTES>
FDSL_INLINE void copy_bytes(void* to, const void* from) {
  memcpy(to, from, BYTES);
}
// The threads of a block copy a word each: where one copies a record with a base, it does so byte by byte.
template <class T>
FDSL_INLINE void copy_words(T& to, const T& from, int thread) {
  for (int i = thread; i < static_cast<int>(sizeof(T) / 4); i += THREADS)
    reinterpret_cast<uint32_t*>(&to)[i] = reinterpret_cast<const uint32_t*>(&from)[i];
}

#else

// Blocks, and the threads of a phase, go from the last to the first where a test says so: no result may depend on it.
extern "C" {
inline int backward = 0;
}

class Block {
 public:
  template <class T>
  struct Local {
    T value[THREADS];
    T& operator[](int thread) { return value[thread]; }
  };
  Block(int number, void* memory) : number_(number), memory_(memory) {}
  int number() const { return number_; }
  template <class T>
  T& shared() const {
    return *static_cast<T*>(memory_);
  }
  template <class Phase>
  void each(Phase phase) const {
    for (int i = 0; i < THREADS; ++i) phase(backward ? THREADS - 1 - i : i);
  }

 private:
  int number_;
  void* memory_;
};

#define FDSL_UNROLL
#define FDSL_UNROLL_BY(count)
#define FDSL_COLD static
// What tests compare with the records that Python packs.
#define FDSL_SIZE(name, ...) \
  extern "C" int size_of_##name() { return sizeof(__VA_ARGS__); }
// Shared memory begins with anything, here with what is no sensible number.
#define FDSL_KERNEL(name, Task, ...)                                                              \
  extern "C" void name(const void* task, void* out, int blocks, void* shared, int shared_bytes) { \
    for (int i = 0; i < blocks; ++i) {                                                            \
      __builtin_memset(shared, 0xA5, shared_bytes);                                               \
      const int block = fdsl::backward ? blocks - 1 - i : i;                                      \
      fdsl::name(fdsl::Block(block, shared), *static_cast<const fdsl::Task*>(task), out);         \
    }                                                                                             \
  }

FDSL_INLINE void atomic_or(uint32_t* to, uint32_t bits) { *to |= bits; }
FDSL_INLINE void atomic_max(uint32_t* to, uint32_t value) { *to = value > *to ? value : *to; }
FDSL_INLINE void atomic_max(int32_t* to, int32_t value) { *to = value > *to ? value : *to; }
FDSL_INLINE void atomic_min(int32_t* to, int32_t value) { *to = value < *to ? value : *to; }
FDSL_INLINE void atomic_add(uint32_t* to, uint32_t value) { *to += value; }
FDSL_INLINE void atomic_add(int32_t* to, int32_t value) { *to += value; }
FDSL_INLINE void atomic_add(int64_t* to, int64_t value) { *to += value; }
FDSL_INLINE int population(uint32_t bits) { return __builtin_popcount(bits); }
FDSL_INLINE uint32_t funnel(uint32_t low, uint32_t high, int shift) {
  return static_cast<uint32_t>((static_cast<uint64_t>(high) << 32 | low) >> shift);
}
FDSL_INLINE uint32_t low_bits(uint32_t word) { return word & 7u; }
FDSL_INLINE int32_t float_bits(float value) { return __builtin_bit_cast(int32_t, value); }
FDSL_INLINE float bits_float(int32_t bits) { return __builtin_bit_cast(float, bits); }
FDSL_INLINE uint32_t raised(float value) {
  return value >= 0.0f && value < 0x1p23f ? RAISED + static_cast<uint32_t>(value) : ~0u;
}
FDSL_INLINE int32_t truncated(float value) {
  if (value != value) return 0;
  return value <= -0x1p31f ? INT32_MIN : value >= 0x1p31f ? INT32_MAX : static_cast<int32_t>(value);
}
FDSL_INLINE float rounded_down(float value) { return __builtin_floorf(value); }
FDSL_INLINE float lesser(float a, float b) { return a < b ? a : b; }
FDSL_INLINE float greater(float a, float b) { return a > b ? a : b; }
template <int BYTES>
FDSL_INLINE void copy_bytes(void* to, const void* from) {
  __builtin_memcpy(to, from, BYTES);
}
template <class T>
FDSL_INLINE void copy_words(T& to, const T& from, int thread) {
  if (thread == 0) to = from;
}

#endif

// Floats as whole numbers of the same order, for the atomic operations that find an end; no NaN.
FDSL_INLINE int32_t ordered(float value) {
  const int32_t bits = float_bits(value);
  return bits < 0 ? bits ^ 0x7FFFFFFF : bits;
}
FDSL_INLINE float unordered(int32_t order) { return bits_float(order < 0 ? order ^ 0x7FFFFFFF : order); }

}  // namespace fdsl
