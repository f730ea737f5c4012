// Pictures of iterated function systems, in the plane or in space: thread j walks trajectory j. One kernel places a
// picture (its system, and where the fit puts it), the next draws strips of it.
//
// What bounds it: of a step, the reads of shared memory, eight passes a warp (twelve in space), beside some twenty
// operations of which a multiprocessor does half as many at once as of products; a pixel's bit is one atomic operation
// there. A strip of numbers walks the whole picture again, which costs less than numbers in memory outside.
//
// A model of the formula gives:
//   Instance, System, Packed, Maps, Trajectories: of shared/*_ifs.h and lane.h
//   Shared, begin, visit, window: the walk that finds the fit
//   placed(system, window): the system whose points `seen` takes to cells
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
  int32_t unused_too;

  // No number of a catalog that nobody read may lead out of the row.
  FDSL_MEMBER int maps_of(uint32_t category) const {
    return maps[category] < 1 ? 1 : maps[category] > width ? width : maps[category];
  }
};

template <class System>
FDSL_INLINE void set_system(System& system, const SystemsTask& task, uint32_t category, const double* factor,
                            int parameters) {
  const int64_t row = static_cast<int64_t>(category) * task.width;
  set_system(system, task.affine + row * parameters, task.probability + row, task.maps_of(category), factor);
}

// What the first kernel leaves to the second.
template <class Packed>
struct PlacedPicture {
  Packed system;
  Window window;
};

FDSL_INLINE Words trajectory_words(const Spec& spec, const Key& it, uint32_t trajectory) {
  return keyed_words(spec.seed, it.category, it.number, it.epoch, PURPOSE_TRAJECTORY, 0, trajectory);
}

// Steps of thread j past the burn-in.
FDSL_INLINE int steps_of(int points, int thread) { return (points - thread + TRAJECTORIES - 1) / TRAJECTORIES; }

template <class Model>
FDSL_INLINE typename Model::Trajectories begin_trajectory(const typename Model::Packed& system,
                                                          const typename Model::Maps& maps, uint32_t seed) {
  typename Model::Trajectories t;
  const uint32_t state = nonzero(seed);
  t.begin(system, &state);
  for (int s = 0; s < BURN_IN; ++s) t.step(maps);
  return t;
}

template <class Model>
FDSL_INLINE void place_picture(const Block& block, const SystemsTask& task) {
  struct Shared {
    typename Model::System system;
    typename Model::Packed packed;
    typename Model::Fit fit;
  };
  auto& shared = block.shared<Shared>();
  const Spec& spec = task.spec;
  const auto& it = task.record<typename Model::Instance>(block.number());
  block.each([&](int thread) {
    if (thread == 0) {
      set_system(shared.system, task, it.category, it.factor, Model::PARAMETERS);
      shared.fit.begin();
    }
  });
  if (spec.fit == FIT_OWN) {
    block.each([&](int thread) {
      if (thread < MAX_MAPS) shared.packed.pack(shared.system, thread);
    });
    block.each([&](int thread) {
      const typename Model::Maps maps(shared.packed);
      auto t = begin_trajectory<Model>(shared.packed, maps, trajectory_words(spec, it, thread).word[0]);
      typename Model::Reach reach(it);
      for (int s = steps_of(spec.points, thread); s > 0; --s) {
        t.step(maps);
        reach.visit(t);
      }
      shared.fit.merge(reach, thread);
    });
  }
  block.each([&](int thread) {
    if (thread > 0) return;
    auto& placed = static_cast<PlacedPicture<typename Model::Packed>*>(task.places)[block.number()];
    const Model model(spec, it, shared.fit);
    placed.window = model.window();
    const typename Model::System system = model.placed(shared.system, placed.window);
    for (int map = 0; map < MAX_MAPS; ++map) placed.system.pack(system, map);
  });
}

// Where a strip's plane lies while it is drawn.
enum Memory { SHARED, OUTSIDE };

template <class Model>
struct Drawing {
  typename Model::Packed system;
  Place place;
  alignas(16) uint32_t plane[1];  // as long as what is asked for
};

template <Memory MEMORY, class Model>
FDSL_INLINE uint32_t* plane_of(const Block& block, const Task& task, Drawing<Model>& shared, int words) {
  return MEMORY == SHARED ? shared.plane : task.scratch + static_cast<int64_t>(block.number()) * words;
}

template <class Model>
FDSL_INLINE void load_placed(const Block& block, const Task& task, const Strip& strip, Drawing<Model>& shared,
                             int stride) {
  block.each([&](int thread) {
    if (thread > 0) return;
    const auto& placed = static_cast<const PlacedPicture<typename Model::Packed>*>(task.places)[strip.picture];
    shared.system = placed.system;
    shared.place =
        Place(placed.window, task.record<typename Model::Instance>(strip.picture), strip, task.spec.size, stride);
  });
}

// Steps trajectory `thread`, and calls visit(step, cell) for each point that is wanted, after stir() for each there is.
template <class Model, class Stir, class Visit>
FDSL_INLINE void walk(const Drawing<Model>& shared, int points, int thread, uint32_t seed, Stir stir, Visit visit) {
  const typename Model::Maps maps(shared.system);
  const Place place = shared.place;
  auto t = begin_trajectory<Model>(shared.system, maps, seed);
  const int steps = steps_of(points, thread);
  for (int s = 0; s < steps; ++s) {
    t.step(maps);
    stir();
    const auto at = Model::seen(t);
    const int32_t u = truncated(at.x), v = truncated(at.y);
    if (place.wanted(u, v)) visit(s, place.grid.index(u, v));
  }
}

template <class Model, Memory MEMORY>
FDSL_INLINE void draw_bits(const Block& block, const SystemsTask& task, void* out) {
  auto& shared = block.shared<Drawing<Model>>();
  const Strip strip(block, task);
  const auto& it = task.record<typename Model::Instance>(strip.picture);
  const int stride = bit_stride(task.spec.size), words = cells_of(strip, stride) / 32;
  uint32_t* const bits = plane_of<MEMORY>(block, task, shared, words);
  clear(block, bits, words);
  load_placed(block, task, strip, shared, stride);
  block.each([&](int thread) {
    walk(
        shared, task.spec.points, thread, trajectory_words(task.spec, it, thread).word[0], [] {},
        [&](int, int32_t cell) { hit(bits, cell); });
  });
  write_bits(block, task, strip, bits, shared.place.grid, task.spec.draw == DRAW_PATCH ? it.neighbours : 0, out);
}

template <class Model, Memory MEMORY>
FDSL_INLINE void draw_numbers(const Block& block, const SystemsTask& task, void* out) {
  auto& shared = block.shared<Drawing<Model>>();
  const Spec& spec = task.spec;
  const Strip strip(block, task);
  const auto& it = task.record<typename Model::Instance>(strip.picture);
  const bool stamped = spec.draw == DRAW_PATCH_PER_POINT;
  const int stride = number_stride(spec.size), words = cells_of(strip, stride);
  uint32_t* const numbers = plane_of<MEMORY>(block, task, shared, words);
  clear(block, numbers, words);
  load_placed(block, task, strip, shared, stride);
  block.each([&](int thread) {
    const Words drawn = trajectory_words(spec, it, thread);
    const auto point = [=](int s) { return static_cast<uint32_t>(s * TRAJECTORIES + thread); };
    if (stamped) {
      uint32_t random = nonzero(drawn.word[1]);
      walk(
          shared, spec.points, thread, drawn.word[0], [&] { random = xorshift32<Lane>(random); },
          [&](int s, int32_t cell) { stamp(numbers, shared.place.grid, cell, random, point(s)); });
    } else if (spec.color == COLOR_DENSITY) {
      walk(
          shared, spec.points, thread, drawn.word[0], [] {},
          [&](int, int32_t cell) { atomic_add(&numbers[cell], 1u); });
    } else {
      walk(
          shared, spec.points, thread, drawn.word[0], [] {},
          [&](int s, int32_t cell) { atomic_max(&numbers[cell], point(s) + 1); });
    }
  });
  write_numbers(block, task, strip, numbers, shared.place.grid, spec.draw == DRAW_PATCH ? it.neighbours : 0, out,
                NumberEntry{spec.color, stamped});
}

// The kernels of a model: place_NAME, draw_NAME_bits and draw_NAME_numbers, and those whose planes lie outside.
#define FDSL_POINT_KERNELS(name, Model)                                                                      \
  namespace fdsl {                                                                                           \
  FDSL_INLINE void place_##name(const Block& b, const SystemsTask& t, void*) { place_picture<Model>(b, t); } \
  FDSL_INLINE void draw_##name##_bits(const Block& b, const SystemsTask& t, void* out) {                     \
    draw_bits<Model, SHARED>(b, t, out);                                                                     \
  }                                                                                                          \
  FDSL_INLINE void draw_##name##_numbers(const Block& b, const SystemsTask& t, void* out) {                  \
    draw_numbers<Model, SHARED>(b, t, out);                                                                  \
  }                                                                                                          \
  FDSL_INLINE void draw_##name##_bits_outside(const Block& b, const SystemsTask& t, void* out) {             \
    draw_bits<Model, OUTSIDE>(b, t, out);                                                                    \
  }                                                                                                          \
  FDSL_INLINE void draw_##name##_numbers_outside(const Block& b, const SystemsTask& t, void* out) {          \
    draw_numbers<Model, OUTSIDE>(b, t, out);                                                                 \
  }                                                                                                          \
  }                                                                                                          \
  FDSL_SIZE(systems_task, fdsl::SystemsTask)                                                                 \
  FDSL_SIZE(placed_##name, fdsl::PlacedPicture<fdsl::Model::Packed>)                                         \
  FDSL_KERNEL(place_##name, SystemsTask)                                                                     \
  FDSL_KERNEL(draw_##name##_bits, SystemsTask)                                                               \
  FDSL_KERNEL(draw_##name##_numbers, SystemsTask)                                                            \
  FDSL_KERNEL(draw_##name##_bits_outside, SystemsTask)                                                       \
  FDSL_KERNEL(draw_##name##_numbers_outside, SystemsTask)

}  // namespace fdsl
