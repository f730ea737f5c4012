// The lane type of a GPU thread: one float. cpu/lanes_portable.h says what each member does.
#pragma once

#include "cuda/block.h"
#include "shared/spatial_ifs.h"

namespace fdsl {

struct Lane {
  static constexpr int WIDTH = 1;
  using Float = float;
  using Int = uint32_t;
  using Index = uint32_t;
  using Mask = bool;

  // Every STRIDE-th number: what one index picks of several tables lies side by side, and comes in one load.
  template <class T, int STRIDE>
  struct Column {
    const T* first;
    FDSL_MEMBER T operator[](Index i) const { return first[i * STRIDE]; }
  };

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
  static FDSL_MEMBER Float floor(Float a) { return rounded_down(a); }
  static FDSL_MEMBER Float minimum(Float a, Float b) { return a < b ? a : b; }
  static FDSL_MEMBER Float maximum(Float a, Float b) { return a > b ? a : b; }
  static FDSL_MEMBER Float minimum_where(Mask where, Float a, Float b) { return where && a < b ? a : b; }
  static FDSL_MEMBER Float maximum_where(Mask where, Float a, Float b) { return where && a > b ? a : b; }
  static FDSL_MEMBER Float add_where(Mask where, Float a, Float b) { return where ? a + b : b; }
  static FDSL_MEMBER Int truncate(Float a) { return static_cast<uint32_t>(truncated(a)); }
  static FDSL_MEMBER Float to_float(Int a) { return static_cast<float>(static_cast<int32_t>(a)); }

  static FDSL_MEMBER Int add(Int a, Int b) { return a + b; }
  static FDSL_MEMBER Int subtract(Int a, Int b) { return a - b; }
  static FDSL_MEMBER Int multiply(Int a, Int b) { return a * b; }
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
  static FDSL_MEMBER Index index(Int a) { return a & 7u; }
  static FDSL_MEMBER Index pick(Int r, const Column<int32_t, 2>& threshold, const Column<int32_t, 2>& alias) {
    const uint32_t slot = r & 7u;
    const int32_t least = threshold[slot], other = alias[slot];
    return static_cast<int32_t>(r) < least ? slot : static_cast<uint32_t>(other);
  }
};

// Systems as threads read them: 32 lanes that pick among eight maps find each row of theirs in banks of its own.
struct PackedSystem {
  alignas(16) float abec[MAX_MAPS][4];
  alignas(16) float df[MAX_MAPS][2];
  alignas(16) int32_t pick[MAX_MAPS][2];  // threshold, alias
  float start[2];

  FDSL_MEMBER void pack(const System& s, int map) {
    abec[map][0] = s.coefficient[0][map];
    abec[map][1] = s.coefficient[1][map];
    abec[map][2] = s.coefficient[4][map];
    abec[map][3] = s.coefficient[2][map];
    df[map][0] = s.coefficient[3][map];
    df[map][1] = s.coefficient[5][map];
    pick[map][0] = s.threshold[map];
    pick[map][1] = s.alias[map];
    if (map < 2) start[map] = s.start[map];
  }
};

template <>
struct Maps<Lane> {
  Lane::Column<float, 4> a, b, e, c;
  Lane::Column<float, 2> d, f;
  Lane::Column<int32_t, 2> threshold, alias;

  explicit FDSL_MEMBER Maps(const PackedSystem& s)
      : a{s.abec[0]},
        b{s.abec[0] + 1},
        e{s.abec[0] + 2},
        c{s.abec[0] + 3},
        d{s.df[0]},
        f{s.df[0] + 1},
        threshold{s.pick[0]},
        alias{s.pick[0] + 1} {}
};

struct PackedSpatialSystem {
  alignas(16) float row[3][MAX_MAPS][4];  // of the matrix, and of the shift
  alignas(16) int32_t pick[MAX_MAPS][2];
  float start[3];

  FDSL_MEMBER void pack(const SpatialSystem& s, int map) {
    for (int r = 0; r < 3; ++r) {
      for (int k = 0; k < 3; ++k) row[r][map][k] = s.coefficient[3 * r + k][map];
      row[r][map][3] = s.coefficient[9 + r][map];
    }
    pick[map][0] = s.threshold[map];
    pick[map][1] = s.alias[map];
    if (map < 3) start[map] = s.start[map];
  }
};

template <>
struct SpatialMaps<Lane> {
  Lane::Column<float, 4> a, b, c, j, d, e, f, k, g, h, i, l;
  Lane::Column<int32_t, 2> threshold, alias;

  explicit FDSL_MEMBER SpatialMaps(const PackedSpatialSystem& s)
      : a{s.row[0][0]},
        b{s.row[0][0] + 1},
        c{s.row[0][0] + 2},
        j{s.row[0][0] + 3},
        d{s.row[1][0]},
        e{s.row[1][0] + 1},
        f{s.row[1][0] + 2},
        k{s.row[1][0] + 3},
        g{s.row[2][0]},
        h{s.row[2][0] + 1},
        i{s.row[2][0] + 2},
        l{s.row[2][0] + 3},
        threshold{s.pick[0]},
        alias{s.pick[0] + 1} {}
};

}  // namespace fdsl
