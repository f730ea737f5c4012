// The lane type of a GPU thread: one float. cpu/lanes_portable.h and its base say what each member does.
#pragma once

#include "cuda/block.h"
#include "shared/scalar_lane.h"
#include "shared/spatial_ifs.h"

namespace fdsl {

static_assert(THREADS == TRAJECTORIES);

struct Lane : ScalarLane {
  // Every STRIDE-th number: what one index picks of several tables lies side by side, and comes in one load.
  template <class T, int STRIDE>
  struct Column {
    const T* first;
    FDSL_MEMBER T operator[](Index i) const { return first[i * STRIDE]; }
  };

  using Table = Column<float, 1>;

  // Slopes of lattice points modulo 256, wherever they lie.
  struct Slopes {
    const float* slope;
    explicit FDSL_MEMBER Slopes(const float* slope) : slope(slope) {}
    FDSL_MEMBER float operator[](Int point) const { return slope[point & 255u]; }
  };

  static FDSL_MEMBER Float floor(Float a) { return rounded_down(a); }
  static FDSL_MEMBER Int truncate(Float a) { return static_cast<uint32_t>(truncated(a)); }

  static FDSL_MEMBER Index index(Int a) { return a & 7u; }
  // The alias lies in the low three bits of the threshold, a multiple of eight: one word to a slot.
  struct Nothing {};
  static FDSL_MEMBER int32_t packed(int32_t threshold, int32_t alias) { return threshold | alias; }
  static FDSL_MEMBER Index pick(Int r, const Column<int32_t, 1>& slots, Nothing) {
    const int32_t slot = slots[r & 7u];
    return low_bits(static_cast<int32_t>(r | 7u) < slot ? r : static_cast<uint32_t>(slot));
  }
};

// Systems as threads read them: 32 lanes that pick among eight maps find each row of theirs in banks of its own.
struct PackedSystem {
  alignas(16) float abec[MAX_MAPS][4];
  alignas(16) float df[MAX_MAPS][2];
  alignas(16) int32_t pick[MAX_MAPS];
  float start[2];

  FDSL_MEMBER void pack(const System& s, int map) {
    abec[map][0] = s.coefficient[0][map];
    abec[map][1] = s.coefficient[1][map];
    abec[map][2] = s.coefficient[4][map];
    abec[map][3] = s.coefficient[2][map];
    df[map][0] = s.coefficient[3][map];
    df[map][1] = s.coefficient[5][map];
    pick[map] = Lane::packed(s.threshold[map], s.alias[map]);
    if (map < 2) start[map] = s.start[map];
  }
};

template <>
struct Maps<Lane> {
  Lane::Column<float, 4> a, b, e, c;
  Lane::Column<float, 2> d, f;
  Lane::Column<int32_t, 1> threshold;
  Lane::Nothing alias;

  explicit FDSL_MEMBER Maps(const PackedSystem& s)
      : a{s.abec[0]},
        b{s.abec[0] + 1},
        e{s.abec[0] + 2},
        c{s.abec[0] + 3},
        d{s.df[0]},
        f{s.df[0] + 1},
        threshold{s.pick} {}
};

struct PackedSpatialSystem {
  alignas(16) float row[3][MAX_MAPS][4];  // of the matrix, and of the shift
  alignas(16) int32_t pick[MAX_MAPS];
  float start[3];

  FDSL_MEMBER void pack(const SpatialSystem& s, int map) {
    for (int r = 0; r < 3; ++r) {
      for (int k = 0; k < 3; ++k) row[r][map][k] = s.coefficient[3 * r + k][map];
      row[r][map][3] = s.coefficient[9 + r][map];
    }
    pick[map] = Lane::packed(s.threshold[map], s.alias[map]);
    if (map < 3) start[map] = s.start[map];
  }
};

template <>
struct SpatialMaps<Lane> {
  Lane::Column<float, 4> a, b, c, j, d, e, f, k, g, h, i, l;
  Lane::Column<int32_t, 1> threshold;
  Lane::Nothing alias;

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
        threshold{s.pick} {}
};

}  // namespace fdsl
