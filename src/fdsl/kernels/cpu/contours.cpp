#include "cpu/contours.h"

#include <vector>

#include "cpu/share.h"

namespace fdsl {

void draw_contours_batch(const Kernel& kernel, const ContourInstance* instances, const Batch& batch) {
  // A large catalog's arrays were not read when it was opened: no number in them may lead out of the scratch.
  std::vector<ContourInstance> sound(instances, instances + batch.count);
  int most = 1;
  for (ContourInstance& it : sound) {
    it.vertices = std::clamp(it.vertices, 1, MAX_VERTICES);
    it.lines = std::clamp(it.lines, 0, MAX_LINES);
    it.breaks = std::clamp(it.breaks, 0, MAX_BREAKS);
    most = std::max(most, it.vertices);
  }
  const size_t words = (ContourScratch(batch.spec.size, most).words() + 1) / 2;
  share(batch.count, batch.threads, words, [&](size_t i, void* scratch) {
    kernel.draw_contours({&batch.spec, &sound[i], batch.palette, batch.picture(i)}, scratch);
  });
}

}  // namespace fdsl
