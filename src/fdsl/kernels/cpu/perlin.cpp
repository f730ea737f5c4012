#include "cpu/perlin.h"

#include "cpu/share.h"

namespace fdsl {

void draw_perlin_batch(const Kernel& kernel, const int32_t* frequencies, const PerlinInstance* instances,
                       const Batch& batch) {
  // A row of columns and one of levels, each rounded up to whole registers.
  const size_t scratch_words = batch.spec.size + 16;
  share(batch.count, batch.threads, scratch_words, [&](size_t i, void* scratch) {
    const int32_t* frequency = frequencies + 2 * static_cast<size_t>(instances[i].category);
    kernel.draw_perlin({&batch.spec, &instances[i], frequency[0], frequency[1], batch.palette, batch.picture(i)},
                       scratch);
  });
}

}  // namespace fdsl
