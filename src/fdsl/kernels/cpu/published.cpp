// The published FractalDB arithmetic in float64, in its order of operations; published.py names the code it follows.
// What is not finite stays so, and after one NaN both coordinates are NaN: x a + y b + e keeps it, whatever the map.
// So NaN rows are the end of a trajectory, and dropping "the NaN rows and the 100 before" only makes it shorter.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "cpu/floating_point_mode.h"
#include "cpu/legacy_generator.h"

namespace nb = nanobind;
using fdsl::choose_next;
using fdsl::FloatingPointMode;
using fdsl::most_chosen;

namespace {

constexpr int MAX_MAPS = 7;         // of a searched system: randint(2, 8)
constexpr int SIZE = 512, PAD = 6;  // of the picture that the search judges
constexpr int LANES = 4;            // systems side by side: a step is a chain of about 12 cycles
constexpr int BLOCK = 512;          // points of each between judgements: four blocks fit a first-level cache

using Pair = double __attribute__((vector_size(16)));  // x and y; one register on x86-64 and aarch64

struct alignas(64) Map {
  Pair ac, bd, ef;
};

inline Pair apply(const Map& map, Pair at) {
  return (Pair{at[0], at[0]} * map.ac + Pair{at[1], at[1]} * map.bd) + map.ef;
}

inline Map make_map(const double* row) { return {Pair{row[0], row[2]}, Pair{row[1], row[3]}, Pair{row[4], row[5]}}; }

struct System {
  const double* affine;   // (maps, 6), a to f
  const uint8_t* chosen;  // (points,), the map of each step; `maps` where the published code draws the last point again
  int maps, points;
};

// ---- One system, whatever becomes of it

std::vector<Pair> trace(const System& system) {
  std::vector<Map> maps;
  for (int i = 0; i < system.maps; ++i) maps.push_back(make_map(system.affine + 6 * i));
  std::vector<Pair> points = {Pair{0, 0}};
  points.reserve(system.points);
  for (int i = 0; i + 1 < system.points; ++i) {
    const int chosen = system.chosen[i];
    points.push_back(chosen < system.maps ? apply(maps[chosen], points.back()) : points.back());
  }
  for (int axis = 0; axis < 2; ++axis) {
    const auto broken = std::find_if(points.begin(), points.end(), [=](Pair p) { return p[axis] != p[axis]; });
    if (broken != points.end()) points.resize(std::max<ptrdiff_t>(broken - points.begin() - 100, 0));
  }
  return points;
}

// Calls hit(row, column) for each point. The origin is among them, so coordinates are from pad to size − pad, or NaN
// where an axis is infinitely long or has no length: those go to 0, as NumPy's conversion to uint16 does on x86.
template <class Hit>
void rasterise(const std::vector<Pair>& points, int size, int pad, Hit hit) {
  if (points.empty()) return;
  double low[2], length[2];
  for (int axis = 0; axis < 2; ++axis) {
    double least = points[0][axis], most = least;
    for (const Pair& p : points) least = std::min(least, p[axis]), most = std::max(most, p[axis]);
    low[axis] = least, length[axis] = most - least;
  }
  for (const Pair& p : points) {
    int pixel[2];
    for (int axis = 0; axis < 2; ++axis) {
      const double at = (p[axis] - low[axis]) / length[axis] * (size - 2 * pad) + pad;
      pixel[axis] = at >= 0 && at < size ? static_cast<int>(at) : 0;
    }
    hit(pixel[1], pixel[0]);
  }
}

bool fills(const System& system, int needed) {
  std::vector<bool> seen(SIZE * SIZE);
  int hits = 0;
  rasterise(trace(system), SIZE, PAD, [&](int row, int column) {
    hits += !seen[row * SIZE + column];
    seen[row * SIZE + column] = true;
  });
  return hits >= needed;
}

// ---- Many systems, nearly all of which are rejected: bound by the divider (4 cycles for each point's two coordinates)
// and by the steps (3 cycles), taken twice, for the box and for the pixels, because 1.6 MB of points fit no near cache.

struct Lane {
  const System* system;  // null: idle
  const uint8_t* chosen;
  uint8_t* accepted;
  bool drawing;  // the second time round
  int done, hits;
  Pair at, low, high, length;
  Map maps[MAX_MAPS];
  Pair block[BLOCK];
  uint64_t seen[SIZE * SIZE / 64];
};

void advance(Lane* lanes, int steps) {
  Pair at[LANES];
  const uint8_t* chosen[LANES];
  for (int j = 0; j < LANES; ++j) at[j] = lanes[j].at, chosen[j] = lanes[j].chosen + lanes[j].done;
  for (int i = 0; i < steps; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < LANES; ++j) {
      at[j] = apply(lanes[j].maps[chosen[j][i]], at[j]);
      lanes[j].block[i] = at[j];
    }
  }
  for (int j = 0; j < LANES; ++j) lanes[j].at = at[j];
}

inline Pair lesser(Pair a, Pair b) { return a < b ? a : b; }
inline Pair greater(Pair a, Pair b) { return a > b ? a : b; }

void extend(Lane& lane, int steps) {
  Pair low[4] = {}, high[4] = {};  // minima wait for minima: four chains
  for (int i = 0; i < steps; ++i) {
    low[i % 4] = lesser(lane.block[i], low[i % 4]);
    high[i % 4] = greater(lane.block[i], high[i % 4]);
  }
  for (int j = 0; j < 4; ++j) lane.low = lesser(low[j], lane.low), lane.high = greater(high[j], lane.high);
}

void mark(Lane& lane, int steps) {
  const Pair low = lane.low, length = lane.length;
  int hits = 0;
  for (int i = 0; i < steps; ++i) {
    const Pair pixel = (lane.block[i] - low) / length * (SIZE - 2.0 * PAD) + PAD;
    const uint32_t place = static_cast<int>(pixel[1]) * SIZE + static_cast<int>(pixel[0]);
    const uint64_t word = lane.seen[place / 64];
    hits += ~word >> place % 64 & 1;
    lane.seen[place / 64] = word | uint64_t{1} << place % 64;
  }
  lane.hits += hits;
}

void restart(Lane& lane) {
  lane.done = 0;
  lane.at = Pair{0, 0};
}

void start(Lane& lane, const System& system, uint8_t* accepted) {
  lane.system = &system;
  lane.chosen = system.chosen;
  lane.accepted = accepted;
  lane.drawing = false;
  for (int i = 0; i < system.maps; ++i) lane.maps[i] = make_map(system.affine + 6 * i);
  lane.low = lane.high = Pair{0, 0};  // the origin is a point
  restart(lane);
}

void finish(Lane& lane, bool accepted) {
  *lane.accepted = accepted;
  lane.system = nullptr;
  restart(lane);
}

// After a block of the first round. If a coordinate is not finite, either the rows from there on are dropped, which
// leaves `done` points at most, or an axis is infinitely long; that, or no length, puts all points into two columns or
// two rows of the picture. Where so few pixels could be enough, they are counted in full.
void measure(Lane& lane, int steps, int needed) {
  lane.done += steps;
  extend(lane, steps);
  if (!std::isfinite(lane.at[0]) || !std::isfinite(lane.at[1]))
    return finish(lane, needed <= std::max(lane.done, 2 * SIZE) && fills(*lane.system, needed));
  if (lane.done + 1 < lane.system->points) return;
  lane.length = lane.high - lane.low;
  for (int axis = 0; axis < 2; ++axis)
    if (!std::isfinite(lane.length[axis]) || lane.length[axis] == 0)
      return finish(lane, needed <= 2 * SIZE && fills(*lane.system, needed));
  restart(lane);
  lane.drawing = true;
  std::fill(std::begin(lane.seen), std::end(lane.seen), 0);
  lane.hits = 0;
  lane.block[0] = lane.at;
  mark(lane, 1);
}

// After a block of the second: over once the pixels are enough, or would not be if every point left hit a new one.
void draw(Lane& lane, int steps, int needed) {
  mark(lane, steps);
  lane.done += steps;
  const int left = lane.system->points - 1 - lane.done;
  if (lane.hits >= needed || lane.hits + left < needed) finish(lane, lane.hits >= needed);
}

void judge(const std::vector<System>& systems, int needed, uint8_t* accepted) {
  const std::unique_ptr<Lane[]> lanes(new Lane[LANES]());
  const std::vector<uint8_t> first_map(systems[0].points);
  for (int j = 0; j < LANES; ++j) lanes[j].chosen = first_map.data();  // an idle lane steps along
  for (size_t next = 0;;) {
    int steps = 0;
    for (int j = 0; j < LANES; ++j) {
      while (!lanes[j].system && next < systems.size()) {
        const System& system = systems[next];
        if (most_chosen(system.chosen, system.points) >= system.maps)
          accepted[next] = fills(system, needed);
        else
          start(lanes[j], system, accepted + next);
        ++next;
      }
      if (!lanes[j].system) continue;
      const int left = lanes[j].system->points - 1 - lanes[j].done;
      steps = std::min(steps ? steps : BLOCK, left);
    }
    if (!steps) return;
    advance(lanes.get(), steps);
    for (int j = 0; j < LANES; ++j)
      if (lanes[j].system) lanes[j].drawing ? draw(lanes[j], steps, needed) : measure(lanes[j], steps, needed);
  }
}

}  // namespace

void bind_published(nb::module_& module) {
  using Doubles = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
  using Rows = nb::ndarray<const double, nb::shape<-1, 6>, nb::c_contig, nb::device::cpu>;
  using Table = nb::ndarray<const double, nb::shape<-1, 7>, nb::c_contig, nb::device::cpu>;
  using Factors = nb::ndarray<const double, nb::shape<6>, nb::c_contig, nb::device::cpu>;
  using Flags = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
  using Choices = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
  using Picture = nb::ndarray<uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
  using Key = nb::ndarray<uint32_t, nb::shape<624>, nb::c_contig, nb::device::cpu>;
  module.def(
      "published_choose",
      [](const Key& key, int position, const Doubles& sums, const Flags& out) {
        if (position < 0 || position > 624) throw std::invalid_argument("no position of a generator");
        const nb::gil_scoped_release release;
        const FloatingPointMode mode;
        return choose_next(key.data(), position, sums.data(), static_cast<int>(sums.shape(0)),
                           static_cast<int>(out.shape(0)), out.data());
      },
      nb::arg("key").noconvert(), nb::arg("position"), nb::arg("sums").noconvert(), nb::arg("out").noconvert(),
      "The place of the first running sum not below each draw of an MT19937, whose new position is returned.");
  module.def(
      "published_render_point",
      [](const Table& params, const Factors& weights, const Choices& chosen, int pad, const Picture& out) {
        if (out.shape(0) != out.shape(1)) throw std::invalid_argument("out is not square");
        const int size = static_cast<int>(out.shape(0));
        const nb::gil_scoped_release release;
        const FloatingPointMode mode;
        std::vector<double> affine;
        for (size_t i = 0; i < params.shape(0); ++i)
          for (int j = 0; j < 6; ++j) affine.push_back(params.data()[7 * i + j] * weights.data()[j]);
        const System system = {affine.data(), chosen.data(), static_cast<int>(params.shape(0)),
                               static_cast<int>(chosen.shape(0))};
        rasterise(trace(system), size, pad,
                  [&](int row, int column) { out.data()[(size - 1 - row) * size + column] = 127; });
      },
      nb::arg("params").noconvert(), nb::arg("weights").noconvert(), nb::arg("chosen").noconvert(), nb::arg("pad"),
      nb::arg("out").noconvert(), "Sets the pixels of the published point picture to 127 in out, uint8 (size, size).");
  module.def(
      "published_judge",
      [](const std::vector<Rows>& affine, const std::vector<Choices>& chosen, int needed, const Flags& out) {
        if (affine.empty() || chosen.size() != affine.size() || out.shape(0) != affine.size())
          throw std::invalid_argument("arrays do not fit together");
        std::vector<System> systems;
        for (size_t i = 0; i < affine.size(); ++i) {
          systems.push_back({affine[i].data(), chosen[i].data(), static_cast<int>(affine[i].shape(0)),
                             static_cast<int>(chosen[i].shape(0))});
          if (systems[i].maps > MAX_MAPS || systems[i].points < 2 || systems[i].points != systems[0].points)
            throw std::invalid_argument("arrays do not fit together");
        }
        const nb::gil_scoped_release release;
        const FloatingPointMode mode;
        judge(systems, needed, out.data());
      },
      nb::arg("affine"), nb::arg("chosen"), nb::arg("needed"), nb::arg("out").noconvert(),
      "Whether each system's point picture has at least `needed` pixels, uint8 (systems,) into out.");
}
