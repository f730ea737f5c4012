// Pictures of iterated function systems, in the plane or in space: thread j walks trajectory j. One kernel places a
// picture (its system, and where the fit puts it), the next draws strips of it.
//
// What bounds it, counted in the instructions for sm_90, not measured: a warp's step in the plane issues 31 where it
// finds the fit and 38 where it hits a bit, in space 44 and 66 (a division among them); four schedulers issue one each
// a cycle. Of shared memory, which gives 128 bytes a cycle, a step reads 7 such passes, in space 13; a bit is one
// atomic operation of some 4, the most of 32 bits that share a bank. So a step takes 8 and 10 cycles to issue and 7 and
// 11 of shared memory, in space 11 and 17, and 13 and 17: about even. A strip of numbers walks the whole picture again,
// which costs less than numbers in memory outside.
//
// A model of the formula (affine_model.h, spatial_model.h) gives:
//   Instance, System, Packed, Maps, Trajectories: of shared/*_ifs.h and lane.h; PARAMETERS of a map
//   Reach, Fit: what the fit asks of one trajectory's points, and of all: begin, merge, add_up
//   Move, window(spec, it, fit, move): where the fit puts the picture, and how the system moves there
//   seen(trajectories): x and y of a point in the coordinates of cells
#pragma once

#include "cuda/lane.h"
#include "cuda/planes.h"

namespace fdsl {

// A catalog's parameters follow the head of a task: affine (C, M, 6 or 12), probability (C, M), maps (C).
struct SystemsTask : Task {
  const double* affine;
  const double* probability;
  const int32_t* maps;
  int32_t width;  // M
  int32_t categories;

  // No number of a catalog that nobody read may lead out of the row.
  FDSL_MEMBER int maps_of(uint32_t category) const {
    return maps[category] < 1 ? 1 : maps[category] > width ? width : maps[category];
  }
};

constexpr int SECOND_WARP = 32;  // its first thread, which works while the first warp's does

// A system while a block works on it.
template <class Model>
struct Working {
  typename Model::System system;
  typename Model::Packed packed;
};

// The system of an instance, a map to a thread.
template <class Model>
FDSL_INLINE void set_up(const Block& block, const SystemsTask& task, uint32_t category, const double* factor,
                        Working<Model>& working) {
  const int64_t row = static_cast<int64_t>(category) * task.width;
  const double* const affine = task.affine + row * Model::PARAMETERS;
  const double* const probability = task.probability + row;
  const int maps = task.maps_of(category);
  block.each([&](int thread) {
    if (thread < MAX_MAPS) set_map(working.system, affine, maps, factor, thread);
  });
  block.each([&](int thread) {
    if (thread == 0) set_start(working.system, probability, maps);
    if (thread == SECOND_WARP) set_probability(working.system, probability, maps);
  });
  block.each([&](int thread) {
    if (thread < MAX_MAPS) working.packed.pack(working.system, thread);
  });
}

FDSL_INLINE Words trajectory_words(const Spec& spec, const Key& it, uint32_t trajectory) {
  return keyed_words(spec.seed, it.category, it.number, it.epoch, PURPOSE_TRAJECTORY, 0, trajectory);
}

// Points past the burn-in that thread j draws, one a step, of so many that `threads` share.
FDSL_INLINE int steps_of(int points, int thread, int threads = TRAJECTORIES) {
  return thread < threads ? (points - thread + threads - 1) / threads : 0;
}

template <class Model>
FDSL_INLINE typename Model::Trajectories begin_trajectory(const typename Model::Packed& system,
                                                          const typename Model::Maps& maps, uint32_t seed) {
  typename Model::Trajectories t;
  const uint32_t state = nonzero(seed);
  t.begin(system, &state);
  FDSL_UNROLL_BY(4)
  for (int s = 0; s < BURN_IN; ++s) t.step(maps);
  return t;
}

// What the first kernel leaves to the second.
template <class Packed>
struct PlacedPicture {
  Packed system;
  Window window;
};

template <class Model>
struct Placing {
  Working<Model> working;
  typename Model::System placed;
  typename Model::Move move;
  Window window;
  typename Model::Fit fit;
};

// The own fit, where that is asked for.
template <class Model>
FDSL_INLINE void find_fit(const Block& block, const Spec& spec, const typename Model::Instance& it,
                          const Working<Model>& working, typename Model::Fit& fit) {
  block.each([&](int thread) {
    if (thread == 0) fit.begin();
  });
  block.each([&](int thread) {
    const typename Model::Maps maps(working.packed);
    auto t = begin_trajectory<Model>(working.packed, maps, trajectory_words(spec, it, thread).word[0]);
    typename Model::Reach reach(it, t);
    const int steps = steps_of(spec.points, thread);
    FDSL_UNROLL_BY(4)
    for (int s = 0; s < steps; ++s) {
      t.step(maps);
      reach.visit(t);
    }
    fit.merge(reach, thread);
  });
  block.each([&](int thread) { fit.add_up(thread); });
}

// The system that `move` moves, a map to a thread, into `to`.
template <class Model>
FDSL_INLINE void move_system(const Block& block, const typename Model::System& system, const typename Model::Move& move,
                             typename Model::System& placed, typename Model::Packed& to) {
  block.each([&](int thread) {
    if (thread < MAX_MAPS) place_map(placed, system, move, thread);
    if (thread == SECOND_WARP) place_start(placed, system, move);
  });
  block.each([&](int thread) {
    if (thread < MAX_MAPS) to.pack(placed, thread);
  });
}

template <class Model>
FDSL_INLINE void place_picture(const Block& block, const SystemsTask& task) {
  auto& shared = block.shared<Placing<Model>>();
  const auto& it = task.record<typename Model::Instance>(block.number());
  auto& out = static_cast<PlacedPicture<typename Model::Packed>*>(task.places)[block.number()];
  set_up(block, task, it.category, it.factor, shared.working);
  if (task.spec.fit == FIT_OWN) find_fit<Model>(block, task.spec, it, shared.working, shared.fit);
  block.each([&](int thread) {
    if (thread == 0) out.window = Model::window(task.spec, it, shared.fit, shared.move);
  });
  move_system<Model>(block, shared.working.system, shared.move, shared.placed, out.system);
}

// Where a strip's plane lies while it is drawn.
enum Memory { SHARED, OUTSIDE };

template <class Model>
struct Drawing {
  typename Model::Packed system;
  Place place;
  alignas(16) uint32_t plane[1];  // as long as what is asked for
};

template <Memory MEMORY, class Shared>
FDSL_INLINE uint32_t* plane_of(const Block& block, const Task& task, Shared& shared, int words) {
  return MEMORY == SHARED ? shared.plane : task.scratch + static_cast<int64_t>(block.number()) * words;
}

template <class Model>
FDSL_INLINE void load_placed(const Block& block, const Task& task, const Strip& strip, Drawing<Model>& shared,
                             int stride) {
  block.each([&](int thread) {
    const auto& placed = static_cast<const PlacedPicture<typename Model::Packed>*>(task.places)[strip.picture];
    copy_words(shared.system, placed.system, thread);
    if (thread == THREADS - 1)
      shared.place =
          Place(placed.window, task.record<typename Model::Instance>(strip.picture), strip, task.spec.size, stride);
  });
}

// A place for coordinates as floats: their bits, once 2^23 is added, are those of whole numbers above RAISED.
struct RaisedPlace {
  uint32_t u_first, u_count, v_first, v_count, column_factor, row_factor, origin;

  explicit FDSL_MEMBER RaisedPlace(const Place& place)
      : u_first(RAISED + place.u_first),
        u_count(place.u_count),
        v_first(RAISED + place.v_first),
        v_count(place.v_count),
        column_factor(place.grid.right),
        row_factor(place.grid.row_factor),
        origin(place.grid.index(0, 0) - RAISED * (column_factor + row_factor)) {}
  FDSL_MEMBER bool wanted(uint32_t u, uint32_t v) const { return u - u_first < u_count && v - v_first < v_count; }
  FDSL_MEMBER int32_t index(uint32_t u, uint32_t v) const { return u * column_factor + v * row_factor + origin; }
};

// Takes so many steps, and calls visit(step, cell) for each point that is wanted, after stir(step) for each there is.
template <class Trajectories, class Maps, class Seen, class Stir, class Visit>
FDSL_INLINE void walk(Trajectories& t, const Maps& maps, int from, int to, const RaisedPlace& place, Seen seen,
                      Stir stir, Visit visit) {
  FDSL_UNROLL_BY(2)
  for (int s = from; s < to; ++s) {
    t.step(maps);
    stir(s);
    const auto at = seen(t);
    const uint32_t u = raised(at.x), v = raised(at.y);
    if (place.wanted(u, v)) visit(s, place.index(u, v));
  }
}

// What points leave in their cells, where that is not a bit: of the picture's points number first + step * stride;
// next() gives their patches, walk(stir, visit) is as above.
template <class Next, class Walk>
FDSL_INLINE void leave_numbers(const Spec& spec, uint32_t* numbers, const Grid& grid, int first, int stride, Next next,
                               Walk walk) {
  const auto point = [=](int s) { return static_cast<uint32_t>(first + s * stride); };
  uint32_t random = 0;
  if (spec.draw == DRAW_PATCH_PER_POINT)
    walk([&](int s) { random = next(s); }, [&](int s, int32_t cell) { stamp(numbers, grid, cell, random, point(s)); });
  else if (spec.color == COLOR_DENSITY)
    walk([](int) {}, [&](int, int32_t cell) { atomic_add(&numbers[cell], 1u); });
  else
    walk([](int) {}, [&](int s, int32_t cell) { atomic_max(&numbers[cell], point(s) + 1); });
}

template <class Model>
FDSL_INLINE void draw_bits(const Block& block, const SystemsTask& task, void* out) {
  auto& shared = block.shared<Drawing<Model>>();
  const Strip strip(block, task);
  const auto& it = task.record<typename Model::Instance>(strip.picture);
  const int stride = bit_stride(task.spec.size), words = cells_of(strip, stride) / 32;
  uint32_t* const bits = shared.plane;
  clear(block, bits, words);
  load_placed(block, task, strip, shared, stride);
  block.each([&](int thread) {
    const typename Model::Maps maps(shared.system);
    auto t = begin_trajectory<Model>(shared.system, maps, trajectory_words(task.spec, it, thread).word[0]);
    walk(
        t, maps, 0, steps_of(task.spec.points, thread), RaisedPlace(shared.place), Model::seen, [](int) {},
        [=](int, int32_t cell) { hit(bits, cell); });
  });
  write_bits(block, task, strip, bits, shared.place.grid, task.spec.draw == DRAW_PATCH ? it.neighbours : 0, out);
}

template <class Model, Memory MEMORY>
FDSL_INLINE void draw_numbers(const Block& block, const SystemsTask& task, void* out) {
  auto& shared = block.shared<Drawing<Model>>();
  const Spec& spec = task.spec;
  const Strip strip(block, task);
  const auto& it = task.record<typename Model::Instance>(strip.picture);
  const int stride = number_stride(spec.size), words = cells_of(strip, stride);
  uint32_t* const numbers = plane_of<MEMORY>(block, task, shared, words);
  clear(block, numbers, words);
  load_placed(block, task, strip, shared, stride);
  block.each([&](int thread) {
    const typename Model::Maps maps(shared.system);
    const Words drawn = trajectory_words(spec, it, thread);
    const RaisedPlace place(shared.place);
    auto t = begin_trajectory<Model>(shared.system, maps, drawn.word[0]);
    uint32_t random = nonzero(drawn.word[1]);
    const auto next = [&](int) { return random = xorshift32<Lane>(random); };
    leave_numbers(spec, numbers, shared.place.grid, thread, TRAJECTORIES, next, [&](auto stir, auto visit) {
      walk(t, maps, 0, steps_of(spec.points, thread), place, Model::seen, stir, visit);
    });
  });
  write_numbers(block, task, strip, numbers, shared.place.grid, spec.draw == DRAW_PATCH ? it.neighbours : 0, out,
                NumberEntry{spec.color, spec.draw == DRAW_PATCH_PER_POINT});
}

// The kernels of a model: place_NAME, draw_NAME_bits and draw_NAME_numbers, and the one whose numbers lie outside.
#define FDSL_POINT_KERNELS(name, Model)                                                                      \
  namespace fdsl {                                                                                           \
  FDSL_INLINE void place_##name(const Block& b, const SystemsTask& t, void*) { place_picture<Model>(b, t); } \
  FDSL_INLINE void draw_##name##_bits(const Block& b, const SystemsTask& t, void* out) {                     \
    draw_bits<Model>(b, t, out);                                                                             \
  }                                                                                                          \
  FDSL_INLINE void draw_##name##_numbers(const Block& b, const SystemsTask& t, void* out) {                  \
    draw_numbers<Model, SHARED>(b, t, out);                                                                  \
  }                                                                                                          \
  FDSL_INLINE void draw_##name##_numbers_outside(const Block& b, const SystemsTask& t, void* out) {          \
    draw_numbers<Model, OUTSIDE>(b, t, out);                                                                 \
  }                                                                                                          \
  }                                                                                                          \
  FDSL_SIZE(systems_task, fdsl::SystemsTask)                                                                 \
  FDSL_SIZE(placed_##name, fdsl::PlacedPicture<fdsl::Model::Packed>)                                         \
  FDSL_SIZE(placing_##name, fdsl::Placing<fdsl::Model>)                                                      \
  FDSL_KERNEL(place_##name, SystemsTask, 5)                                                                  \
  FDSL_KERNEL(draw_##name##_bits, SystemsTask)                                                               \
  FDSL_KERNEL(draw_##name##_numbers, SystemsTask)                                                            \
  FDSL_KERNEL(draw_##name##_numbers_outside, SystemsTask)

}  // namespace fdsl
