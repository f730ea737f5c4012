// Random iteration of a 2D iterated function system, by the "chaos game" (Barnsley, Fractals Everywhere, 1988),
// over any lane type: float on a GPU thread or in portable C++, or a register of 4, 8 or 16 floats (cpu/lanes_*.h).
//
// A lane type V (cpu/lanes_portable.h and its base say what each member does) gives:
//   V::WIDTH; V::Float, V::Int: registers; V::Table: eight values, looked up by the low three bits of an index
//   arithmetic and comparisons of both; minimum and maximum give the second operand where either is NaN
//
// On a GPU thread j owns trajectory j; the block's own box, where the fit asks for it, is a walk and a reduction
// before.
#pragma once

#include "picture.h"
#include "xorshift.h"

namespace fdsl {

constexpr int TRAJECTORIES = 256;  // per picture, whatever the machine: a GPU block, sixteen registers of AVX-512
constexpr int BURN_IN = 32;        // steps that draw nothing
constexpr int MAX_MAPS = 8;

// How a map is picked: Walker's alias method over eight equal slots. One random word r names the slot by its low three
// bits and, read as a signed number, the slot's own map where r < threshold, else the slot's alias. Exact to 2^-32.
struct MapPick {
  int32_t threshold[MAX_MAPS];
  int32_t alias[MAX_MAPS];
};

// Affine maps as float, in the order a b c d e f: x' = a x + b y + e, y' = c x + d y + f.
struct System : MapPick {
  float coefficient[6][MAX_MAPS];
  float start[2];
};

// What a search and a probe want to know of a picture; engines/cpu.py has the same record.
struct Measurement {
  Box box;
  int32_t pixels;
  bool finite;
  uint8_t unused[3];
};

// With an eighth of the points a count ends if `enough` pixels are hit, or not an eighth of them: later points hit
// fewer new pixels than earlier ones. Nearly all pictures end there.
FDSL_INLINE bool counts_early(int points, int32_t enough) { return enough <= points / 8; }
FDSL_INLINE bool is_decided(int32_t pixels, int32_t enough) { return pixels >= enough || pixels < enough / 8; }

// One picture of a system; primitives.AffineSystems has the same record.
struct AffineInstance : Key {
  double factor[6];  // of the parameter columns a ... f
  Box box;           // of the probe: bounds every fit
};

// Alias slots from probabilities that sum to about 1; the running sum is rounded to multiples of 2^-32.
FDSL_INLINE void set_probability(MapPick& pick, const double* probability, int maps) {
  double total = 0.0;
  FDSL_ROLLED
  for (int i = 0; i < maps; ++i) total += probability[i];
  int64_t weight[MAX_MAPS] = {};
  int64_t below = 0;
  double running = 0.0;
  FDSL_ROLLED
  for (int i = 0; i < maps; ++i) {
    running += probability[i];
    double share = running / total;  // from 0 to 1, whatever a catalog that nobody read holds
    share = share > 0.0 ? share < 1.0 ? share : 1.0 : 0.0;
    const int64_t upto = i + 1 == maps ? int64_t{1} << 32 : static_cast<int64_t>(share * 0x1p32 + 0.5);
    weight[i] = upto - below;
    below = upto;
  }
  constexpr int64_t SLOT = int64_t{1} << 29;
  bool open[MAX_MAPS];
  for (int i = 0; i < MAX_MAPS; ++i) {
    pick.alias[i] = i;
    pick.threshold[i] = INT32_MIN;  // r < threshold never holds, and the alias is the slot's own map
    open[i] = true;
  }
  for (;;) {
    int small = -1, large = -1;
    for (int i = MAX_MAPS - 1; i >= 0; --i) {
      if (open[i] && weight[i] < SLOT) small = i;
      if (open[i] && weight[i] > SLOT) large = i;
    }
    if (small < 0 || large < 0) break;
    pick.threshold[small] = static_cast<int32_t>(weight[small] * 8 - (int64_t{1} << 31));
    pick.alias[small] = large;
    weight[large] -= SLOT - weight[small];
    open[small] = false;
  }
}

// The fixed point of the map with the smallest Frobenius norm among those with p > 0: it lies on the attractor
// where that map contracts, so no picture shows the way there. The origin where there is no such point.
FDSL_INLINE void set_start(System& system, const double* probability, int maps) {
  int best = 0;
  float least = 3.4e38f;
  FDSL_ROLLED
  for (int i = 0; i < maps; ++i) {
    const float a = system.coefficient[0][i], b = system.coefficient[1][i];
    const float c = system.coefficient[2][i], d = system.coefficient[3][i];
    const float norm = fused(a, a, fused(b, b, fused(c, c, d * d)));
    if (probability[i] > 0.0 && norm < least) {
      least = norm;
      best = i;
    }
  }
  const float a = system.coefficient[0][best], b = system.coefficient[1][best], c = system.coefficient[2][best];
  const float d = system.coefficient[3][best], e = system.coefficient[4][best], f = system.coefficient[5][best];
  const float determinant = fused(1.0f - a, 1.0f - d, -(b * c));
  const float x = fused(1.0f - d, e, b * f) / determinant, y = fused(1.0f - a, f, c * e) / determinant;
  const bool usable = x > -1e30f && x < 1e30f && y > -1e30f && y < 1e30f;  // false for NaN
  system.start[0] = usable ? x : 0.0f;
  system.start[1] = usable ? y : 0.0f;
}

// One map of an instance: each parameter times its factor.
FDSL_INLINE void set_map(System& system, const double* affine, int maps, const double* factor, int i) {
  for (int k = 0; k < 6; ++k)
    system.coefficient[k][i] = i < maps ? static_cast<float>(affine[i * 6 + k] * factor[k]) : 0.0f;
}

// The system of one instance: its maps, and probabilities as they are.
FDSL_INLINE void set_system(System& system, const double* affine, const double* probability, int maps,
                            const double* factor) {
  for (int i = 0; i < MAX_MAPS; ++i) set_map(system, affine, maps, factor, i);
  set_probability(system, probability, maps);
  set_start(system, probability, maps);
}

// One map of the same system seen in the coordinates of `placement`: if P moves the plane, P·map·P⁻¹ draws the moved
// picture. So any crop, scale, rotation or shear costs nothing per point.
FDSL_INLINE void place_map(System& placed, const System& system, const Placement& p, int i) {
  const double determinant = p.m00 * p.m11 - p.m01 * p.m10;
  const double i00 = p.m11 / determinant, i01 = -p.m01 / determinant;
  const double i10 = -p.m10 / determinant, i11 = p.m00 / determinant;
  const double a = system.coefficient[0][i], b = system.coefficient[1][i], c = system.coefficient[2][i];
  const double d = system.coefficient[3][i], e = system.coefficient[4][i], f = system.coefficient[5][i];
  const double l00 = p.m00 * a + p.m01 * c, l01 = p.m00 * b + p.m01 * d;
  const double l10 = p.m10 * a + p.m11 * c, l11 = p.m10 * b + p.m11 * d;
  const double a2 = l00 * i00 + l01 * i10, b2 = l00 * i01 + l01 * i11;
  const double c2 = l10 * i00 + l11 * i10, d2 = l10 * i01 + l11 * i11;
  placed.coefficient[0][i] = static_cast<float>(a2);
  placed.coefficient[1][i] = static_cast<float>(b2);
  placed.coefficient[2][i] = static_cast<float>(c2);
  placed.coefficient[3][i] = static_cast<float>(d2);
  placed.coefficient[4][i] = static_cast<float>(p.m00 * e + p.m01 * f + p.t0 - a2 * p.t0 - b2 * p.t1);
  placed.coefficient[5][i] = static_cast<float>(p.m10 * e + p.m11 * f + p.t1 - c2 * p.t0 - d2 * p.t1);
  placed.threshold[i] = system.threshold[i];
  placed.alias[i] = system.alias[i];
}

FDSL_INLINE void place_start(System& placed, const System& system, const Placement& p) {
  const double x = system.start[0], y = system.start[1];
  placed.start[0] = static_cast<float>(p.m00 * x + p.m01 * y + p.t0);
  placed.start[1] = static_cast<float>(p.m10 * x + p.m11 * y + p.t1);
}

FDSL_INLINE void place_system(System& placed, const System& system, const Placement& p) {
  for (int i = 0; i < MAX_MAPS; ++i) place_map(placed, system, p, i);
  place_start(placed, system, p);
}

// A system in registers: eight maps fill one AVX2 register per coefficient, and one permute picks a lane's value.
template <class V>
struct Maps {
  typename V::Table a, b, c, d, e, f;
  typename V::IntTable threshold, alias;

  explicit FDSL_MEMBER Maps(const System& s)
      : a(s.coefficient[0]),
        b(s.coefficient[1]),
        c(s.coefficient[2]),
        d(s.coefficient[3]),
        e(s.coefficient[4]),
        f(s.coefficient[5]),
        threshold(s.threshold),
        alias(s.alias) {}
};

// V::WIDTH trajectories side by side.
template <class V>
struct Trajectories {
  typename V::Float x, y;
  typename V::Int state;

  template <class Start>
  FDSL_MEMBER void begin(const Start& system, const uint32_t* seeds) {
    x = V::set(system.start[0]);
    y = V::set(system.start[1]);
    state = V::load(seeds);
  }

  // Bound on AVX-512 by its two vector ports: 19 operations, nine of them permutes or compares that only one can do.
  FDSL_MEMBER void step(const Maps<V>& maps) {
    state = xorshift32<V>(state);
    const typename V::Index map = V::pick(state, maps.threshold, maps.alias);
    const typename V::Float nx = V::fma(maps.a[map], x, V::fma(maps.b[map], y, maps.e[map]));
    y = V::fma(maps.c[map], x, V::fma(maps.d[map], y, maps.f[map]));
    x = nx;
  }
};

}  // namespace fdsl
