// One lane of plain numbers: what the lane types of portable C++ and of a GPU thread have in common.
#pragma once

#include "platform.h"

namespace fdsl {

struct ScalarLane {
  static constexpr int WIDTH = 1;
  using Float = float;
  using Int = uint32_t;
  using Index = uint32_t;
  using Mask = bool;

  static FDSL_MEMBER Float set(float v) { return v; }
  static FDSL_MEMBER Int set(int32_t v) { return static_cast<uint32_t>(v); }
  static FDSL_MEMBER Int load(const uint32_t* v) { return *v; }
  static FDSL_MEMBER Float load(const float* v) { return *v; }
  static FDSL_MEMBER void store(uint32_t* to, Int v) { *to = v; }
  static FDSL_MEMBER void store(float* to, Float v) { *to = v; }

  static FDSL_MEMBER Float fma(Float a, Float b, Float c) { return fused(a, b, c); }
  static FDSL_MEMBER Float add(Float a, Float b) { return a + b; }
  static FDSL_MEMBER Float subtract(Float a, Float b) { return a - b; }
  static FDSL_MEMBER Float multiply(Float a, Float b) { return a * b; }
  static FDSL_MEMBER Float divide(Float a, Float b) { return a / b; }
  static FDSL_MEMBER Float minimum(Float a, Float b) { return a < b ? a : b; }
  static FDSL_MEMBER Float maximum(Float a, Float b) { return a > b ? a : b; }
  static FDSL_MEMBER Float minimum_where(Mask where, Float a, Float b) { return where && a < b ? a : b; }
  static FDSL_MEMBER Float maximum_where(Mask where, Float a, Float b) { return where && a > b ? a : b; }
  static FDSL_MEMBER Float add_where(Mask where, Float a, Float b) { return where ? a + b : b; }
  static FDSL_MEMBER Float to_float(Int a) { return static_cast<float>(static_cast<int32_t>(a)); }

  static FDSL_MEMBER Int add(Int a, Int b) { return a + b; }
  static FDSL_MEMBER Int subtract(Int a, Int b) { return a - b; }
  static FDSL_MEMBER Int multiply(Int a, Int b) { return a * b; }
  static FDSL_MEMBER Int minimum(Int a, Int b) { return static_cast<int32_t>(a) < static_cast<int32_t>(b) ? a : b; }
  static FDSL_MEMBER Int maximum(Int a, Int b) { return static_cast<int32_t>(a) > static_cast<int32_t>(b) ? a : b; }
  // The high half of the product of unsigned numbers.
  static FDSL_MEMBER Int multiply_high(Int a, Int b) { return static_cast<uint64_t>(a) * b >> 32; }
  static FDSL_MEMBER Int bit_and(Int a, Int b) { return a & b; }
  static FDSL_MEMBER Int bit_or(Int a, Int b) { return a | b; }
  static FDSL_MEMBER Int bit_xor(Int a, Int b) { return a ^ b; }
  template <int N>
  static FDSL_MEMBER Int shift_left(Int a) {
    return a << N;
  }
  template <int N>
  static FDSL_MEMBER Int shift_right(Int a) {
    return a >> N;
  }

  static FDSL_MEMBER Mask at_least(Float a, Float b) { return a >= b; }
  static FDSL_MEMBER Mask between(Float low, Float a, Float high) { return a >= low && a <= high; }
  static FDSL_MEMBER Mask both(Mask a, Mask b) { return a && b; }
};

}  // namespace fdsl
