// One lane of plain C++, with its base: the reference that the others must equal.
#pragma once

#include "cpu/spread.h"
#include "shared/noise.h"
#include "shared/scalar_lane.h"

namespace fdsl {

struct Portable : ScalarLane {
  static constexpr int GROUPS = 8;  // side by side, to hide the latency of each

  struct Table {
    const float* value;
    explicit FDSL_MEMBER Table(const float* v) : value(v) {}
    FDSL_MEMBER Float operator[](Index i) const { return value[i & 7u]; }
  };
  struct IntTable {
    const int32_t* value;
    explicit FDSL_MEMBER IntTable(const int32_t* v) : value(v) {}
  };

  // x0 y0 z0 x1 y1 z1 ... of a whole register each.
  static FDSL_MEMBER void store_points(float* to, Float x, Float y, Float z) {
    to[0] = x;
    to[1] = y;
    to[2] = z;
  }

  static FDSL_MEMBER Float floor(Float a) { return __builtin_floorf(a); }
  static FDSL_MEMBER Int truncate(Float a) { return static_cast<uint32_t>(static_cast<int32_t>(a)); }

  static FDSL_MEMBER Int absolute(Int a) { return static_cast<int32_t>(a) < 0 ? 0u - a : a; }

  static FDSL_MEMBER Mask negative(Int a) { return static_cast<int32_t>(a) < 0; }
  // Of unsigned numbers.
  static FDSL_MEMBER Mask below(Int a, Int b) { return a < b; }
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
