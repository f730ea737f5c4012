// Random iteration of an iterated function system in space, over any lane type: affine_ifs.h with a third axis.
#pragma once

#include "affine_ifs.h"

namespace fdsl {

// Affine maps as float, in the order a ... l: (a b c; d e f; g h i) is the matrix by rows, (j k l) the shift.
struct SpatialSystem : MapPick {
  float coefficient[12][MAX_MAPS];
  float start[3];
};

// How far a cloud of points reaches, over all three coordinates together, and where its centre of mass lies.
struct Extent {
  float low, high;
  float centre[3];
};

// What a search and a probe want to know of a cloud; engines/cpu.py has the same record.
struct SpatialMeasurement {
  Extent extent;
  float variance[3];
  bool finite;
  uint8_t unused[3];
};

// By the sums of x, y and z and of their squares, all seen from `start`, of so many points: the variance of each
// coordinate once all three span 2, or that the cloud is not finite.
FDSL_INLINE void conclude(SpatialMeasurement& result, const double* total, const double* squares, int count,
                          const float* start) {
  const double width = static_cast<double>(result.extent.high) - static_cast<double>(result.extent.low);
  result.finite = width < 1e30;  // false for NaN
  for (int axis = 0; axis < 3; ++axis) {
    const double mean = total[axis] / count, variance = squares[axis] / count - mean * mean;
    const double scaled = width > 0.0 ? variance * (2.0 / width) * (2.0 / width) : 0.0;
    result.finite = result.finite && squares[axis] < 1e60;
    result.variance[axis] = result.finite ? static_cast<float>(scaled) : 0.0f;
    result.extent.centre[axis] = result.finite ? static_cast<float>(mean + start[axis]) : 0.0f;
  }
}

// A cloud of a fourth of the trajectories tells most of the bad ones: those with less than half of the `least` variance
// on an axis.
FDSL_INLINE bool is_hopeless(const SpatialMeasurement& fourth, float least) {
  bool hopeless = !fourth.finite;
  for (float variance : fourth.variance) hopeless = hopeless || variance < 0.5f * least;
  return hopeless;
}

// One picture of a system in space; primitives.SpatialSystems has the same record.
struct SpatialInstance : Key {
  double factor[12];   // of the parameter columns a ... l
  Extent extent;       // of the probe: its low and high bound every fit
  uint32_t turn;       // of the camera about the vertical axis, in 2^-32 turns
  uint32_t elevation;  // of its direction of sight over the horizontal, likewise
  uint32_t unused;
};

// p -> m p + t
struct SpatialPlacement {
  double m[3][3], t[3];
};

FDSL_INLINE float determinant2(float a, float b, float c, float d) { return fused(a, d, -(b * c)); }

// As in the plane: the fixed point of the map with the smallest Frobenius norm among those with p > 0, else the origin.
FDSL_INLINE void set_start(SpatialSystem& system, const double* probability, int maps) {
  int best = 0;
  float least = 3.4e38f;
  FDSL_ROLLED
  for (int i = 0; i < maps; ++i) {
    float norm = 0.0f;
    for (int k = 8; k >= 0; --k) norm = fused(system.coefficient[k][i], system.coefficient[k][i], norm);
    if (probability[i] > 0.0 && norm < least) {
      least = norm;
      best = i;
    }
  }
  // (I - A) p = t by Cramer's rule.
  float n[3][3], t[3];
  for (int row = 0; row < 3; ++row) {
    for (int column = 0; column < 3; ++column)
      n[row][column] = (row == column ? 1.0f : 0.0f) - system.coefficient[3 * row + column][best];
    t[row] = system.coefficient[9 + row][best];
  }
  float cofactor[3][3];
  for (int row = 0; row < 3; ++row)
    for (int column = 0; column < 3; ++column) {
      const int r = (row + 1) % 3, s = (row + 2) % 3, c = (column + 1) % 3, d = (column + 2) % 3;
      cofactor[row][column] = determinant2(n[r][c], n[r][d], n[s][c], n[s][d]);
    }
  const float determinant = fused(n[0][0], cofactor[0][0], fused(n[0][1], cofactor[0][1], n[0][2] * cofactor[0][2]));
  bool usable = true;
  for (int axis = 0; axis < 3; ++axis) {
    const float sum = fused(cofactor[0][axis], t[0], fused(cofactor[1][axis], t[1], cofactor[2][axis] * t[2]));
    system.start[axis] = sum / determinant;
    usable = usable && system.start[axis] > -1e30f && system.start[axis] < 1e30f;  // false for NaN
  }
  for (int axis = 0; axis < 3 && !usable; ++axis) system.start[axis] = 0.0f;
}

// One map of an instance: each parameter times its factor.
FDSL_INLINE void set_map(SpatialSystem& system, const double* affine, int maps, const double* factor, int i) {
  for (int k = 0; k < 12; ++k)
    system.coefficient[k][i] = i < maps ? static_cast<float>(affine[i * 12 + k] * factor[k]) : 0.0f;
}

// The system of one instance: its maps, and probabilities as they are.
FDSL_INLINE void set_system(SpatialSystem& system, const double* affine, const double* probability, int maps,
                            const double* factor) {
  for (int i = 0; i < MAX_MAPS; ++i) set_map(system, affine, maps, factor, i);
  set_probability(system, probability, maps);
  set_start(system, probability, maps);
}

// One map of the same system seen in the coordinates of `placement`: if P moves space, P·map·P⁻¹ draws the moved cloud.
// So normalising, turning and the linear part of a camera cost nothing per point.
FDSL_INLINE void place_map(SpatialSystem& placed, const SpatialSystem& system, const SpatialPlacement& p, int i) {
  double cofactor[3][3], inverse[3][3];
  for (int row = 0; row < 3; ++row)
    for (int column = 0; column < 3; ++column) {
      const int r = (row + 1) % 3, s = (row + 2) % 3, c = (column + 1) % 3, d = (column + 2) % 3;
      cofactor[row][column] = p.m[r][c] * p.m[s][d] - p.m[r][d] * p.m[s][c];
    }
  const double determinant = p.m[0][0] * cofactor[0][0] + p.m[0][1] * cofactor[0][1] + p.m[0][2] * cofactor[0][2];
  for (int row = 0; row < 3; ++row)
    for (int column = 0; column < 3; ++column) inverse[row][column] = cofactor[column][row] / determinant;
  for (int row = 0; row < 3; ++row) {
    double left[3];  // a row of P·A
    double shift = p.t[row];
    for (int column = 0; column < 3; ++column) {
      left[column] = 0.0;
      for (int k = 0; k < 3; ++k) left[column] += p.m[row][k] * system.coefficient[3 * k + column][i];
      shift += p.m[row][column] * system.coefficient[9 + column][i];
    }
    for (int column = 0; column < 3; ++column) {
      const double entry = left[0] * inverse[0][column] + left[1] * inverse[1][column] + left[2] * inverse[2][column];
      placed.coefficient[3 * row + column][i] = static_cast<float>(entry);
      shift -= entry * p.t[column];
    }
    placed.coefficient[9 + row][i] = static_cast<float>(shift);
  }
  placed.threshold[i] = system.threshold[i];
  placed.alias[i] = system.alias[i];
}

FDSL_INLINE void place_start(SpatialSystem& placed, const SpatialSystem& system, const SpatialPlacement& p) {
  for (int row = 0; row < 3; ++row)
    placed.start[row] = static_cast<float>(p.m[row][0] * system.start[0] + p.m[row][1] * system.start[1] +
                                           p.m[row][2] * system.start[2] + p.t[row]);
}

FDSL_INLINE void place_system(SpatialSystem& placed, const SpatialSystem& system, const SpatialPlacement& p) {
  for (int i = 0; i < MAX_MAPS; ++i) place_map(placed, system, p, i);
  place_start(placed, system, p);
}

// A system in registers.
template <class V>
struct SpatialMaps {
  typename V::Table a, b, c, d, e, f, g, h, i, j, k, l;
  typename V::IntTable threshold, alias;

  explicit FDSL_MEMBER SpatialMaps(const SpatialSystem& s)
      : a(s.coefficient[0]),
        b(s.coefficient[1]),
        c(s.coefficient[2]),
        d(s.coefficient[3]),
        e(s.coefficient[4]),
        f(s.coefficient[5]),
        g(s.coefficient[6]),
        h(s.coefficient[7]),
        i(s.coefficient[8]),
        j(s.coefficient[9]),
        k(s.coefficient[10]),
        l(s.coefficient[11]),
        threshold(s.threshold),
        alias(s.alias) {}
};

// V::WIDTH trajectories side by side.
template <class V>
struct SpatialTrajectories {
  typename V::Float x, y, z;
  typename V::Int state;

  template <class Start>
  FDSL_MEMBER void begin(const Start& system, const uint32_t* seeds) {
    x = V::set(system.start[0]);
    y = V::set(system.start[1]);
    z = V::set(system.start[2]);
    state = V::load(seeds);
  }

  // Bound on AVX-512 by its two vector ports: 30 operations, fifteen of them permutes or compares that only one can do.
  FDSL_MEMBER void step(const SpatialMaps<V>& maps) {
    state = xorshift32<V>(state);
    const typename V::Index map = V::pick(state, maps.threshold, maps.alias);
    const typename V::Float nx = V::fma(maps.a[map], x, V::fma(maps.b[map], y, V::fma(maps.c[map], z, maps.j[map])));
    const typename V::Float ny = V::fma(maps.d[map], x, V::fma(maps.e[map], y, V::fma(maps.f[map], z, maps.k[map])));
    z = V::fma(maps.g[map], x, V::fma(maps.h[map], y, V::fma(maps.i[map], z, maps.l[map])));
    x = nx;
    y = ny;
  }
};

}  // namespace fdsl
