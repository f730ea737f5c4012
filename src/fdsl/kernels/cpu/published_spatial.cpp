// The published search in space, in float64 and its order of operations; published.py names the code it follows.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "cpu/floating_point_mode.h"
#include "cpu/legacy_generator.h"

namespace nb = nanobind;
using namespace fdsl;

namespace {

constexpr int MOST_MAPS = 7;  // of a searched system: randint(2, 8)
constexpr int LANES = 4;      // systems side by side: a step is a chain of about 19 cycles

struct alignas(32) Point {
  double at[4];  // x, y, z and nothing
};

struct Map {
  Point column[4];  // of the matrix, and the shift
};

// A cloud as the published code walks it: from the origin, which it leaves out, `steps` points.
struct Walk {
  const uint8_t* chosen;    // the map of each step; `maps` where the published code takes the last point again
  Map maps[MOST_MAPS + 1];  // and the identity, for that
  std::vector<Point> points;
  Point low, high;  // of the points that are numbers
};

void set_maps(Walk& walk, const double* affine, int maps) {
  for (int i = 0; i <= maps; ++i)
    for (int row = 0; row < 3; ++row) {
      for (int column = 0; column < 3; ++column)
        walk.maps[i].column[column].at[row] = i < maps ? affine[12 * i + 3 * row + column] : row == column;
      walk.maps[i].column[3].at[row] = i < maps ? affine[12 * i + 9 + row] : 0.0;
    }
}

WIDEST void advance(Walk* walks, int steps) {
  typedef double Quad __attribute__((vector_size(32)));
  Quad at[LANES] = {}, low[LANES], high[LANES];
  for (int lane = 0; lane < LANES; ++lane) {
    low[lane] = at[lane] + INFINITY;
    high[lane] = at[lane] - INFINITY;
  }
  for (int i = 0; i < steps; ++i) {
#pragma GCC unroll 4
    for (int lane = 0; lane < LANES; ++lane) {
      const Quad* map = reinterpret_cast<const Quad*>(&walks[lane].maps[walks[lane].chosen[i]]);
      const Quad p = at[lane];
      const Quad x = {p[0], p[0], p[0], p[0]}, y = {p[1], p[1], p[1], p[1]}, z = {p[2], p[2], p[2], p[2]};
      at[lane] = ((x * map[0] + y * map[1]) + z * map[2]) + map[3];
      low[lane] = at[lane] < low[lane] ? at[lane] : low[lane];
      high[lane] = at[lane] > high[lane] ? at[lane] : high[lane];
      *reinterpret_cast<Quad*>(&walks[lane].points[i]) = at[lane];
    }
  }
  for (int lane = 0; lane < LANES; ++lane) {
    *reinterpret_cast<Quad*>(&walks[lane].low) = low[lane];
    *reinterpret_cast<Quad*>(&walks[lane].high) = high[lane];
  }
}

// Whether each axis has a greater variance than `least` once all coordinates together span 2. Where one is not finite,
// the published code finds no number in the end, and rejects too.
WIDEST bool spreads(const Walk& walk, int count, double least) {
  typedef double Quad __attribute__((vector_size(32)));
  const Quad* all = reinterpret_cast<const Quad*>(walk.points.data());
  const double low = std::min({walk.low.at[0], walk.low.at[1], walk.low.at[2]});
  const double high = std::max({walk.high.at[0], walk.high.at[1], walk.high.at[2]});
  const double length = high - low;
  if (!std::isfinite(length) || !(length > 0.0)) return false;
  // Divided by a product, not each by itself: the variance differs in its last bits at most.
  const double scale = 2.0 / length;
  const Quad lowest = {low, low, low, low}, scales = {scale, scale, scale, scale};
  Quad sum[4] = {}, square[4] = {};
  for (int i = 0; i < count; ++i) {
    const Quad value = (all[i] - lowest) * scales - 1.0;
    sum[i % 4] += value;
    square[i % 4] += value * value;
  }
  for (int axis = 0; axis < 3; ++axis) {
    const double mean = (sum[0][axis] + sum[1][axis] + sum[2][axis] + sum[3][axis]) / count;
    const double squares = (square[0][axis] + square[1][axis] + square[2][axis] + square[3][axis]) / count;
    if (!(squares - mean * mean > least)) return false;  // also where it is no number
  }
  return true;
}

// The next candidate of the generator: randint(2, 8), uniform(-1, 1, 12) for each map, random(points).
int draw_candidate(uint32_t* key, int at, double* affine, double* probability, int32_t& maps, uint8_t* chosen,
                   int points) {
  uint32_t words[2 * 12 * MOST_MAPS];
  do at = next_words(key, at, 1, words);
  while ((words[0] & 7) > 5);  // NumPy masks, and draws again what is too large
  maps = 2 + (words[0] & 7);
  at = next_words(key, at, 2 * 12 * maps, words);
  combine(words, 12 * maps, affine);
  double total = 0.0;
  for (int i = 0; i < maps; ++i) {
    double* m = affine + 12 * i;
    for (int k = 0; k < 12; ++k) m[k] = -1.0 + 2.0 * m[k];
    probability[i] = std::abs(m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6]) +
                              m[2] * (m[3] * m[7] - m[4] * m[6]));
    total += probability[i];
  }
  double sums[MOST_MAPS], sum = 0.0;
  for (int i = 0; i < maps; ++i) {
    probability[i] /= total;
    sums[i] = sum += probability[i];
  }
  return choose_next(key, at, sums, maps, points, chosen);
}

}  // namespace

void bind_published_spatial(nb::module_& module) {
  using Key = nb::ndarray<uint32_t, nb::shape<624>, nb::c_contig, nb::device::cpu>;
  using Affine = nb::ndarray<double, nb::shape<-1, MOST_MAPS, 12>, nb::c_contig, nb::device::cpu>;
  using Probability = nb::ndarray<double, nb::shape<-1, MOST_MAPS>, nb::c_contig, nb::device::cpu>;
  using Counts = nb::ndarray<int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
  using Choices = nb::ndarray<uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
  using Flags = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
  module.def(
      "published_draw_spatial",
      [](const Key& key, int position, const Affine& affine, const Probability& probability, const Counts& maps,
         const Choices& chosen) {
        const size_t count = affine.shape(0), points = chosen.shape(1);
        if (probability.shape(0) != count || maps.shape(0) != count || chosen.shape(0) != count || position < 0 ||
            position > 624)
          throw std::invalid_argument("arrays do not fit together");
        const nb::gil_scoped_release release;
        const FloatingPointMode mode;
        for (size_t i = 0; i < count; ++i)
          position = draw_candidate(key.data(), position, affine.data() + i * MOST_MAPS * 12,
                                    probability.data() + i * MOST_MAPS, maps.data()[i], chosen.data() + i * points,
                                    static_cast<int>(points));
        return position;
      },
      nb::arg("key").noconvert(), nb::arg("position"), nb::arg("affine").noconvert(),
      nb::arg("probability").noconvert(), nb::arg("maps").noconvert(), nb::arg("chosen").noconvert(),
      "Fills candidates with the next draws of an MT19937, whose new position is returned.");
  module.def(
      "published_judge_spatial",
      [](const Affine& affine, const Counts& maps, const Choices& chosen, double least, const Flags& out) {
        const size_t count = affine.shape(0);
        if (maps.shape(0) != count || chosen.shape(0) != count || out.shape(0) != count || chosen.shape(1) < 2)
          throw std::invalid_argument("arrays do not fit together");
        const int steps = static_cast<int>(chosen.shape(1)) - 1;
        for (size_t i = 0; i < count; ++i)
          if (most_chosen(chosen.data() + i * chosen.shape(1), steps) > std::clamp(maps.data()[i], 0, MOST_MAPS))
            throw std::invalid_argument("a step's map is not in its system");
        const nb::gil_scoped_release release;
        const FloatingPointMode mode;
        std::vector<Walk> walks(LANES);
        for (Walk& walk : walks) walk.points.resize(steps);
        for (size_t first = 0; first < count; first += LANES) {
          for (size_t lane = 0; lane < LANES; ++lane) {
            const size_t i = std::min(first + lane, count - 1);  // the last once more where none is left
            walks[lane].chosen = chosen.data() + i * chosen.shape(1);
            set_maps(walks[lane], affine.data() + i * MOST_MAPS * 12, std::clamp(maps.data()[i], 0, MOST_MAPS));
          }
          advance(walks.data(), steps);
          for (size_t lane = 0; lane < LANES && first + lane < count; ++lane)
            out.data()[first + lane] = spreads(walks[lane], steps, least);
        }
      },
      nb::arg("affine").noconvert(), nb::arg("maps").noconvert(), nb::arg("chosen").noconvert(), nb::arg("least"),
      nb::arg("out").noconvert(),
      "Whether each candidate's cloud has a variance over `least` on every axis, uint8 (candidates,) into out.");
}
