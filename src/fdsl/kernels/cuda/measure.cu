// What a search and a probe want to know of pictures and clouds, which are judged and not kept: a block each.
//
// What bounds it: as in points.h, the steps; most candidates are judged by an eighth of a picture's points, or by a
// fourth of a cloud's trajectories.
#include "cuda/affine_model.h"
#include "cuda/spatial_model.h"

namespace fdsl {

struct MeasureTask : SystemsTask {
  const int32_t* enough;  // of each picture
  float least;            // of all clouds
  int32_t unused_too;
};

// A picture's own box, and whether a trajectory ended beyond the probe's.
struct JudgedModel : AffineModel {
  struct Reach : AffineModel::Reach {
    bool inside;

    FDSL_MEMBER Reach(const AffineInstance& it, const Trajectories& t) : AffineModel::Reach(it, t), inside(holds(t)) {}
    FDSL_MEMBER void visit(const Trajectories& t) {
      inside = holds(t);
      AffineModel::Reach::visit(t);
    }
  };
  struct Fit : AffineModel::Fit {
    uint32_t astray;

    FDSL_MEMBER void begin() {
      AffineModel::Fit::begin();
      astray = 0;
    }
    FDSL_MEMBER void merge(const Reach& reach, int thread) {
      AffineModel::Fit::merge(reach, thread);
      if (!reach.inside) atomic_or(&astray, 1u);
    }
  };
};

struct JudgedPicture {
  Working<JudgedModel> working;
  System placed;
  Placement move;
  JudgedModel::Fit fit;
  Place place;
  Measurement result;
  bool decided;
  alignas(16) uint32_t plane[1];  // as long as what is asked for
};

FDSL_INLINE void measure_affine(const Block& block, const MeasureTask& task, void* out) {
  auto& shared = block.shared<JudgedPicture>();
  const Spec& spec = task.spec;
  const auto& it = task.record<AffineInstance>(block.number());
  auto& result = static_cast<Measurement*>(out)[block.number()];
  const int32_t enough = task.enough[block.number()];
  const Strip whole(block, task);
  const int stride = bit_stride(spec.size), words = cells_of(whole, stride) / 32;
  uint32_t* const bits = shared.plane;
  set_up(block, task, it.category, it.factor, shared.working);
  find_fit<JudgedModel>(block, spec, it, shared.working, shared.fit);
  block.each([&](int thread) {
    if (thread > 0) return;
    shared.result = {shared.fit.box(it), 0, !shared.fit.astray, {}};
    const Window w = place_window(spec, it, shared.result.box);
    shared.move = w.placement;
    shared.place = Place(w, it, whole, spec.size, stride);
    shared.decided = !shared.result.finite;
  });
  if (!shared.decided) {
    // The unmoved system is used no more.
    move_system<JudgedModel>(block, shared.working.system, shared.move, shared.placed, shared.working.packed);
    clear(block, bits, words);
    Block::Local<AffineModel::Trajectories> t;
    block.each([&](int thread) {
      t[thread] = begin_trajectory<JudgedModel>(shared.working.packed, AffineModel::Maps(shared.working.packed),
                                                trajectory_words(spec, it, thread).word[0]);
    });
    // The first points of a picture are the first of each trajectory.
    const int early = counts_early(spec.points, enough) ? spec.points / 8 : 0;
    for (int points = early > 0 ? early : spec.points, before = 0; !shared.decided;
         before = points, points = spec.points) {
      block.each([&](int thread) {
        walk(
            t[thread], AffineModel::Maps(shared.working.packed), steps_of(before, thread), steps_of(points, thread),
            RaisedPlace(shared.place), AffineModel::seen, [](int) {}, [=](int, int32_t cell) { hit(bits, cell); });
        if (thread == 0) shared.result.pixels = 0;
      });
      block.each([&](int thread) {
        int32_t pixels = 0;
        for (int i = thread; i < words; i += THREADS) pixels += population(bits[i]);
        atomic_add(&shared.result.pixels, pixels);
      });
      block.each([&](int thread) {
        if (thread == 0) shared.decided = points == spec.points || is_decided(shared.result.pixels, enough);
      });
    }
  }
  block.each([&](int thread) {
    if (thread == 0) result = shared.result;
  });
}

constexpr int FOURTH = TRAJECTORIES / 4;

struct JudgedCloud {
  Working<SpatialModel> working;
  int32_t low, high;
  double total[6];
  float sum[6][TRAJECTORIES];  // of x, y and z and of their squares, seen from the start
  SpatialMeasurement result;
  bool decided;
};

FDSL_INLINE void measure_spatial(const Block& block, const MeasureTask& task, void* out) {
  auto& shared = block.shared<JudgedCloud>();
  const Spec& spec = task.spec;
  const auto& it = task.record<SpatialInstance>(block.number());
  auto& result = static_cast<SpatialMeasurement*>(out)[block.number()];
  const float far = bits_float(0x7F800000);
  set_up(block, task, it.category, it.factor, shared.working);
  block.each([&](int thread) {
    if (thread < 6) shared.total[thread] = 0.0;
    if (thread > 0) return;
    shared.low = ordered(far);
    shared.high = ordered(-far);
    shared.result = {};
    shared.decided = false;
  });
  for (int from = 0, to = FOURTH; !shared.decided; from = to, to = TRAJECTORIES) {
    block.each([&](int thread) {
      if (thread < from || thread >= to) return;
      const SpatialModel::Maps maps(shared.working.packed);
      auto t = begin_trajectory<SpatialModel>(shared.working.packed, maps, trajectory_words(spec, it, thread).word[0]);
      const float start[3] = {shared.working.system.start[0], shared.working.system.start[1],
                              shared.working.system.start[2]};
      float low = far, high = -far, sum[3] = {}, square[3] = {};
      const int steps = steps_of(spec.points, thread);
      FDSL_UNROLL_BY(2)
      for (int s = 0; s < steps; ++s) {
        t.step(maps);
        low = Lane::minimum(t.z, Lane::minimum(t.y, Lane::minimum(t.x, low)));
        high = Lane::maximum(t.z, Lane::maximum(t.y, Lane::maximum(t.x, high)));
        const float at[3] = {t.x - start[0], t.y - start[1], t.z - start[2]};
        FDSL_UNROLL
        for (int axis = 0; axis < 3; ++axis) {
          sum[axis] = at[axis] + sum[axis];
          square[axis] = fused(at[axis], at[axis], square[axis]);
        }
      }
      FDSL_UNROLL
      for (int axis = 0; axis < 3; ++axis) {
        shared.sum[axis][thread] = sum[axis];
        shared.sum[3 + axis][thread] = square[axis];
      }
      atomic_min(&shared.low, ordered(low));
      atomic_max(&shared.high, ordered(high));
    });
    // As on the cpu, in the order of the trajectories.
    block.each([&](int thread) {
      if (thread >= 6) return;
      double total = shared.total[thread];
      for (int j = from; j < to; ++j) total += shared.sum[thread][j];
      shared.total[thread] = total;
    });
    block.each([&](int thread) {
      if (thread > 0) return;
      shared.result.extent.low = unordered(shared.low) + 0.0f;  // no negative zero
      shared.result.extent.high = unordered(shared.high) + 0.0f;
      const int rest = spec.points % TRAJECTORIES;
      const int count = to == TRAJECTORIES ? spec.points : spec.points / TRAJECTORIES * to + (rest < to ? rest : to);
      conclude(shared.result, shared.total, shared.total + 3, count, shared.working.system.start);
      shared.decided = to == TRAJECTORIES || (task.least > 0.0f && is_hopeless(shared.result, task.least));
    });
  }
  block.each([&](int thread) {
    if (thread == 0) result = shared.result;
  });
}

}  // namespace fdsl

FDSL_SIZE(measure_task, fdsl::MeasureTask)
FDSL_SIZE(measurement, fdsl::Measurement)
FDSL_SIZE(spatial_measurement, fdsl::SpatialMeasurement)
FDSL_SIZE(judged_picture, fdsl::JudgedPicture)
FDSL_SIZE(judged_cloud, fdsl::JudgedCloud)
FDSL_KERNEL(measure_affine, MeasureTask, 5)
FDSL_KERNEL(measure_spatial, MeasureTask)
