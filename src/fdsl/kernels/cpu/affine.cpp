#include "cpu/affine.h"

#include "cpu/share.h"

namespace fdsl {

size_t picture_words(const Spec& spec) {
  const size_t side = spec.size + 2 * MARGIN, cells = side * ((side + 63) / 64 * 64);
  const bool bits = spec.color == COLOR_GRAY && spec.draw != DRAW_PATCH_PER_POINT;
  return bits ? cells / 64 + std::max(cells / 64, LARGEST_BYTE_GRID / 8) + 24 : cells + 24;
}

namespace {

template <class Instance>
PointTask<Instance> make_task(const AffineParameters& p, const Instance& it, const Spec& spec) {
  constexpr size_t COLUMNS = sizeof it.factor / sizeof *it.factor;
  PointTask<Instance> task = {};
  task.spec = &spec;
  task.instance = &it;
  task.affine = p.affine + static_cast<size_t>(it.category) * p.width * COLUMNS;
  task.probability = p.probability + static_cast<size_t>(it.category) * p.width;
  task.maps = p.maps_of(it.category);
  return task;
}

template <class Instance>
void draw_batch(void (*draw)(const PointTask<Instance>&, void*), const AffineParameters& parameters,
                const Instance* instances, const Batch& batch) {
  share(batch.count, batch.threads, picture_words(batch.spec), [&](size_t i, void* scratch) {
    PointTask<Instance> task = make_task(parameters, instances[i], batch.spec);
    task.palette = batch.palette;
    task.out = batch.picture(i);
    draw(task, scratch);
  });
}

}  // namespace

void draw_affine_batch(const Kernel& kernel, const AffineParameters& parameters, const AffineInstance* instances,
                       const Batch& batch) {
  draw_batch(kernel.draw_affine, parameters, instances, batch);
}

void draw_spatial_batch(const Kernel& kernel, const AffineParameters& parameters, const SpatialInstance* instances,
                        const Batch& batch) {
  draw_batch(kernel.draw_spatial, parameters, instances, batch);
}

void measure_affine_batch(const Kernel& kernel, const AffineParameters& parameters, const AffineInstance* instances,
                          size_t count, const Spec& spec, const int32_t* enough, Measurement* out, int threads) {
  share(count, threads, picture_words(spec), [&](size_t i, void* scratch) {
    out[i] = kernel.measure_affine(make_task(parameters, instances[i], spec), enough[i], scratch);
  });
}

void measure_spatial_batch(const Kernel& kernel, const AffineParameters& parameters, const SpatialInstance* instances,
                           size_t count, const Spec& spec, float least, SpatialMeasurement* out, int threads) {
  share(count, threads, 0,
        [&](size_t i, void*) { out[i] = kernel.measure_spatial(make_task(parameters, instances[i], spec), least); });
}

}  // namespace fdsl
