#include "cpu/given.h"

#include "cpu/share.h"

namespace fdsl {
namespace {

// Two planes of numbers: a patch grows from one into the other.
size_t scratch_words(const Spec& spec) {
  const size_t side = spec.size + 2 * MARGIN;
  return side * side;
}

}  // namespace

void draw_given_points_batch(const Kernel& kernel, const float* points, const GivenPoints* instances,
                             const Batch& batch) {
  share(batch.count, batch.threads, scratch_words(batch.spec), [&](size_t i, void* scratch) {
    const GivenPoints& it = instances[i];
    kernel.draw_given_points({&batch.spec, &it, points + it.first, batch.palette, batch.picture(i)}, scratch);
  });
}

void draw_given_polylines_batch(const Kernel& kernel, const float* vertices, const int64_t* ends,
                                const GivenPolylines* instances, const Batch& batch) {
  share(batch.count, batch.threads, scratch_words(batch.spec), [&](size_t i, void* scratch) {
    const GivenPolylines& it = instances[i];
    kernel.draw_given_polylines({&batch.spec, &it, vertices, ends + it.first, batch.palette, batch.picture(i)},
                                scratch);
  });
}

}  // namespace fdsl
