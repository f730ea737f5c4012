// One lane of plain C++: the reference that the others must equal.
#pragma once

#include "cpu/spread.h"
#include "shared/noise.h"
#include "shared/platform.h"

namespace fdsl {

struct Portable {
  static constexpr int WIDTH = 1;
  static constexpr int GROUPS = 8;  // side by side, to hide the latency of each
  using Float = float;
  using Int = uint32_t;
  using Index = uint32_t;
  using Mask = bool;

  struct Table {
    const float* value;
    explicit FDSL_MEMBER Table(const float* v) : value(v) {}
    FDSL_MEMBER Float operator[](Index i) const { return value[i & 7u]; }
  };
  struct IntTable {
    const int32_t* value;
    explicit FDSL_MEMBER IntTable(const int32_t* v) : value(v) {}
  };

  static FDSL_MEMBER Float set(float v) { return v; }
  static FDSL_MEMBER Int set(int32_t v) { return static_cast<uint32_t>(v); }
  static FDSL_MEMBER Int load(const uint32_t* v) { return *v; }
  static FDSL_MEMBER Float load(const float* v) { return *v; }
  static FDSL_MEMBER void store(uint32_t* to, Int v) { *to = v; }
  static FDSL_MEMBER void store(float* to, Float v) { *to = v; }
  // x0 y0 z0 x1 y1 z1 ... of a whole register each.
  static FDSL_MEMBER void store_points(float* to, Float x, Float y, Float z) {
    to[0] = x;
    to[1] = y;
    to[2] = z;
  }

  static FDSL_MEMBER Float fma(Float a, Float b, Float c) { return fused(a, b, c); }
  static FDSL_MEMBER Float add(Float a, Float b) { return a + b; }
  static FDSL_MEMBER Float subtract(Float a, Float b) { return a - b; }
  static FDSL_MEMBER Float multiply(Float a, Float b) { return a * b; }
  static FDSL_MEMBER Float divide(Float a, Float b) { return a / b; }
  static FDSL_MEMBER Float floor(Float a) { return __builtin_floorf(a); }
  static FDSL_MEMBER Float minimum(Float a, Float b) { return a < b ? a : b; }
  static FDSL_MEMBER Float maximum(Float a, Float b) { return a > b ? a : b; }
  static FDSL_MEMBER Float minimum_where(Mask where, Float a, Float b) { return where && a < b ? a : b; }
  static FDSL_MEMBER Float maximum_where(Mask where, Float a, Float b) { return where && a > b ? a : b; }
  static FDSL_MEMBER Float add_where(Mask where, Float a, Float b) { return where ? a + b : b; }
  static FDSL_MEMBER Int truncate(Float a) { return static_cast<uint32_t>(static_cast<int32_t>(a)); }
  static FDSL_MEMBER Float to_float(Int a) { return static_cast<float>(static_cast<int32_t>(a)); }

  static FDSL_MEMBER Int add(Int a, Int b) { return a + b; }
  static FDSL_MEMBER Int subtract(Int a, Int b) { return a - b; }
  static FDSL_MEMBER Int multiply(Int a, Int b) { return a * b; }
  static FDSL_MEMBER Int minimum(Int a, Int b) { return static_cast<int32_t>(a) < static_cast<int32_t>(b) ? a : b; }
  static FDSL_MEMBER Int maximum(Int a, Int b) { return static_cast<int32_t>(a) > static_cast<int32_t>(b) ? a : b; }
  // The high half of the product of unsigned numbers.
  static FDSL_MEMBER Int multiply_high(Int a, Int b) { return static_cast<uint64_t>(a) * b >> 32; }
  static FDSL_MEMBER Int absolute(Int a) { return static_cast<int32_t>(a) < 0 ? 0u - a : a; }
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
  static FDSL_MEMBER Mask negative(Int a) { return static_cast<int32_t>(a) < 0; }
  // Of unsigned numbers.
  static FDSL_MEMBER Mask below(Int a, Int b) { return a < b; }
  static FDSL_MEMBER Mask both(Mask a, Mask b) { return a && b; }
  static FDSL_MEMBER Int select(Mask where, Int a, Int b) { return where ? a : b; }
  static FDSL_MEMBER uint32_t bits(Mask a) { return a; }
  // The lanes named, one after the other; returns their number. Up to WIDTH words are written.
  static FDSL_MEMBER uint32_t compress(Mask where, Int a, uint32_t* to) {
    *to = a;
    return where;
  }

  // The lowest three bits, for a Table.
  static FDSL_MEMBER Index index(Int a) { return a; }
  static FDSL_MEMBER Index pick(Int r, const IntTable& threshold, const IntTable& alias) {
    return static_cast<int32_t>(r) < threshold.value[r & 7u] ? r : static_cast<uint32_t>(alias.value[r & 7u]);
  }
  static FDSL_MEMBER uint64_t gather(const uint8_t* from) { return gather_bits(from); }
  static FDSL_MEMBER void spread(uint64_t bits, uint8_t value, uint8_t* to) { spread_bits(bits, value, to); }
  static FDSL_MEMBER void stream(uint64_t bits, uint8_t value, uint8_t* to) { spread_bits(bits, value, to); }
  static FDSL_MEMBER void finish_streams() {}

  // Slopes of lattice points modulo 256.
  struct Slopes {
    FDSL_MEMBER Float operator[](Int point) const { return LATTICE_SLOPES.slope[point & 255u]; }
  };
};

}  // namespace fdsl
