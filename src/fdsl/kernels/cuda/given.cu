// Points and polylines that Python has worked out. One kernel finds a picture's box (or how far points in space reach,
// and their centre of mass), and places it; the next draws strips of it, each of which reads all points or vertices.
//
// What bounds it: Python. Here, arithmetic in double, some ten operations a point and strip, which GPUs for graphics do
// 32 or 64 times more slowly than others; cells are numbers of four bytes, in shared memory or outside, whichever.
#include "cuda/lane.h"
#include "cuda/planes.h"
#include "shared/given.h"
#include "shared/lines.h"

namespace fdsl {

// The coordinates of the batch follow the head of the task; of polylines, where each line's vertices end too.
struct GivenTask : Task {
  const float* coordinates;
  const int64_t* ends;
};

// What the first kernel leaves to the second.
struct PlacedGiven {
  Window window;
  Box box;
  SpatialPlacement camera;
};

// Least and largest coordinate: of x and y, or in space of all together, whose sums are those of WholeCoordinates.
struct Reach {
  int32_t low[2], high[2];
  int64_t sum[3];

  FDSL_MEMBER Box box() const { return {unordered(low[0]), unordered(high[0]), unordered(low[1]), unordered(high[1])}; }
};

FDSL_INLINE void find_reach(const Block& block, Reach& reach, const float* coordinates, int64_t points,
                            int dimensions) {
  block.each([&](int thread) {
    if (thread > 0) return;
    reach.low[0] = reach.low[1] = INT32_MAX;
    reach.high[0] = reach.high[1] = INT32_MIN;
    for (int axis = 0; axis < 3; ++axis) reach.sum[axis] = 0;
  });
  block.each([&](int thread) {
    const int64_t count = points * dimensions;
    if (thread >= count) return;
    float low = coordinates[thread], high = low;
    for (int64_t i = thread; i < count; i += THREADS) {  // always of the same axis, where there are two
      const float at = coordinates[i];
      low = at < low ? at : low;
      high = at > high ? at : high;
    }
    const int axis = dimensions == 2 ? thread & 1 : 0;
    atomic_min(&reach.low[axis], ordered(low));
    atomic_max(&reach.high[axis], ordered(high));
  });
  if (dimensions == 2) return;
  block.each([&](int thread) {
    const WholeCoordinates whole(unordered(reach.low[0]), unordered(reach.high[0]));
    FDSL_ROLLED
    for (int axis = 0; axis < 3; ++axis) {
      int64_t sum = 0;
      FDSL_ROLLED
      for (int64_t i = thread; i < points; i += THREADS) sum += whole.of(coordinates[3 * i + axis]);
      atomic_add(&reach.sum[axis], sum);
    }
  });
}

FDSL_COLD void place_in_plane(PlacedGiven& placed, const Spec& spec, const Key& it, const Box& box) {
  placed.box = box;
  placed.window = place_from_corner(spec, it, box);
}

FDSL_INLINE void place_points(const Block& block, const GivenTask& task, void*) {
  auto& reach = block.shared<Reach>();
  const auto& it = task.record<GivenPoints>(block.number());
  find_reach(block, reach, task.coordinates + it.first, it.points, it.dimensions);
  block.each([&](int thread) {
    if (thread > 0) return;
    auto& placed = static_cast<PlacedGiven*>(task.places)[block.number()];
    if (it.dimensions == 2) {
      place_in_plane(placed, task.spec, it, reach.box());
    } else {
      const float low = unordered(reach.low[0]), high = unordered(reach.high[0]);
      const WholeCoordinates whole(low, high);
      Extent extent = {low, high, {}};
      for (int axis = 0; axis < 3; ++axis) extent.centre[axis] = whole.mean(reach.sum[axis], it.points);
      placed.window = place_window(task.spec, it, Box{-1.0f, 1.0f, -1.0f, 1.0f});  // what the camera sees
      placed.camera = place_camera(extent, it.turns, 0, placed.window.placement);
    }
  });
}

FDSL_INLINE void place_polylines(const Block& block, const GivenTask& task, void*) {
  auto& reach = block.shared<Reach>();
  const auto& it = task.record<GivenPolylines>(block.number());
  const int64_t first = task.ends[it.first];
  find_reach(block, reach, task.coordinates + 2 * first, task.ends[it.first + it.lines] - first, 2);
  block.each([&](int thread) {
    if (thread == 0) place_in_plane(static_cast<PlacedGiven*>(task.places)[block.number()], task.spec, it, reach.box());
  });
}

struct DrawnGiven {
  PlacedGiven placed;
  Place place;
  alignas(16) uint32_t plane[1];  // as long as what is asked for

  // A number for each cell of a strip, here or outside; all zero.
  FDSL_MEMBER uint32_t* begin(const Block& block, const Task& task, const Strip& strip, const Key& it) {
    const int stride = number_stride(task.spec.size), words = cells_of(strip, stride);
    uint32_t* const numbers = task.scratch ? task.scratch + static_cast<int64_t>(block.number()) * words : plane;
    clear(block, numbers, words);
    block.each([&](int thread) {
      if (thread > 0) return;
      placed = static_cast<const PlacedGiven*>(task.places)[strip.picture];
      place = Place(placed.window, it, strip, task.spec.size, stride);
    });
    return numbers;
  }
};

FDSL_INLINE void draw_points(const Block& block, const GivenTask& task, void* out) {
  auto& shared = block.shared<DrawnGiven>();
  const Spec& spec = task.spec;
  const Strip strip(block, task);
  const auto& it = task.record<GivenPoints>(strip.picture);
  uint32_t* const numbers = shared.begin(block, task, strip, it);
  const bool flat = it.dimensions == 2, stamped = spec.draw == DRAW_PATCH_PER_POINT;
  const float* const points = task.coordinates + it.first;
  block.each([&](int thread) {
    const Place place = shared.place;
    const Placement p = shared.placed.window.placement;
    const SpatialPlacement& camera = shared.placed.camera;
    const double x0 = shared.placed.box.x0, y0 = shared.placed.box.y0;
    const double left = place.u_first, right = left + place.u_count, low = place.v_first, high = low + place.v_count;
    uint32_t random =
        nonzero(keyed_words(spec.seed, it.category, it.number, it.epoch, PURPOSE_TRAJECTORY, 0, thread).word[1]);
    for (int64_t i = thread; i < it.points; i += THREADS) {
      random = xorshift32<Lane>(random);  // with every point, seen or not
      Position at;
      if (flat) {
        const double x = static_cast<double>(points[2 * i]) - x0, y = static_cast<double>(points[2 * i + 1]) - y0;
        at = {p.m00 * x + p.m01 * y + p.t0, p.m10 * x + p.m11 * y + p.t1};
      } else {
        double seen[3];
        for (int row = 0; row < 3; ++row)
          seen[row] = camera.m[row][0] * points[3 * i] + camera.m[row][1] * points[3 * i + 1] +
                      camera.m[row][2] * points[3 * i + 2] + camera.t[row];
        at = {seen[0] / seen[2], seen[1] / seen[2]};
      }
      if (!(at.x >= left && at.x < right && at.y >= low && at.y < high)) continue;
      const int32_t cell = place.grid.index(static_cast<int32_t>(at.x), static_cast<int32_t>(at.y));
      const uint32_t point = static_cast<uint32_t>(i);
      if (stamped)
        stamp(numbers, place.grid, cell, random, point);
      else if (spec.color == COLOR_DENSITY)
        atomic_add(&numbers[cell], 1u);
      else
        atomic_max(&numbers[cell], point + 1);
    }
  });
  write_numbers(block, task, strip, numbers, shared.place.grid, spec.draw == DRAW_PATCH ? it.neighbours : 0, out,
                NumberEntry{spec.color, stamped});
}

// A number is 1 + that of the last line to reach a cell; a thread draws to a row of vertices from those before.
FDSL_INLINE void draw_polylines(const Block& block, const GivenTask& task, void* out) {
  auto& shared = block.shared<DrawnGiven>();
  const Spec& spec = task.spec;
  const Strip strip(block, task);
  const auto& it = task.record<GivenPolylines>(strip.picture);
  uint32_t* const numbers = shared.begin(block, task, strip, it);
  const int64_t* const ends = task.ends + it.first;
  block.each([&](int thread) {
    const Place place = shared.place;
    const Placement p = shared.placed.window.placement;
    const double x0 = shared.placed.box.x0, y0 = shared.placed.box.y0;
    const int32_t u0 = place.u_first, v0 = place.v_first;
    const Clip clip = {u0, v0, u0 + static_cast<int32_t>(place.u_count), v0 + static_cast<int32_t>(place.v_count)};
    const int64_t share = (ends[it.lines] - ends[0] + THREADS - 1) / THREADS;
    const int64_t first = ends[0] + share * thread;
    const int64_t end = first + share < ends[it.lines] ? first + share : ends[it.lines];
    int64_t line = 0;  // of vertex `first`
    for (int64_t beyond = it.lines; beyond - line > 1;) {
      const int64_t middle = (line + beyond) / 2;
      (ends[middle] <= first ? line : beyond) = middle;
    }
    int32_t u = 0, v = 0;
    const auto go_to = [&](int64_t i) {
      const double x = static_cast<double>(task.coordinates[2 * i]) - x0;
      const double y = static_cast<double>(task.coordinates[2 * i + 1]) - y0;
      u = cell_below(p.m00 * x + p.m01 * y + p.t0);
      v = cell_below(p.m10 * x + p.m11 * y + p.t1);
    };
    if (first < end && first > ends[line]) go_to(first - 1);
    for (int64_t i = first; i < end; ++i) {
      if (i == ends[line + 1]) ++line;
      const int32_t last_u = u, last_v = v;
      go_to(i);
      const bool begins = i == ends[line];
      const uint32_t number = static_cast<uint32_t>(line + 1);
      draw_line(begins ? u : last_u, begins ? v : last_v, u, v, clip,
                [&](int32_t pu, int32_t pv) { atomic_max(&numbers[place.grid.index(pu, pv)], number); });
    }
  });
  const bool color = spec.color == COLOR_COLOR;
  write_numbers(block, task, strip, numbers, shared.place.grid, 0, out, [color](uint32_t number) -> uint32_t {
    return color && number ? 1 + (number - 1) * static_cast<uint32_t>(LINE_HUES) % HUES : number > 0;
  });
}

}  // namespace fdsl

FDSL_SIZE(given_task, fdsl::GivenTask)
FDSL_SIZE(placed_given, fdsl::PlacedGiven)
FDSL_SIZE(drawn_given, fdsl::DrawnGiven)
FDSL_KERNEL(place_points, GivenTask)
FDSL_KERNEL(place_polylines, GivenTask)
FDSL_KERNEL(draw_points, GivenTask)
FDSL_KERNEL(draw_polylines, GivenTask)
