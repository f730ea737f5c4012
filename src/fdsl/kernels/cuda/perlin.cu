// Gradient noise: a thread works out four pixels of a row at a time.
//
// What bounds it: arithmetic, a hundred operations a pixel, of which six are conversions at a quarter of the rate.
// Nothing is read but eight gradients in shared memory, each in a bank of its own, and a byte or two written.
#include "cuda/lane.h"
#include "cuda/task.h"
#include "shared/perlin.h"

namespace fdsl {

// A catalog's frequencies follow the head of the task: (C, 2).
struct PerlinTask : Task {
  const int32_t* frequencies;
};

FDSL_INLINE void draw_perlin(const Block& block, const PerlinTask& task, void* out) {
  struct Shared {
    PerlinNoise noise;
    int32_t first, right, top;  // of the whole picture, which column comes first, and the step to the next
  };
  auto& shared = block.shared<Shared>();
  const Spec& spec = task.spec;
  const Strip strip(block, task);
  block.each([&](int thread) {
    if (thread > 0) return;
    const Key& it = task.record<Key>(strip.picture);
    const Window w = place_window(spec, it, spec.of, spec.of, 0.0, 0.0);
    const int32_t* frequency = task.frequencies + 2 * static_cast<int64_t>(it.category);
    shared.noise = perlin_noise(spec, it, w.placement, frequency[0], frequency[1]);
    shared.first = w.mirror ? w.left + spec.size - 1 : w.left;
    shared.right = w.mirror ? -1 : 1;
    shared.top = w.top;
  });
  const bool color = spec.color == COLOR_COLOR;
  write_pieces(block, task, strip, out, [&](int row, int column) {
    const PerlinNoise& noise = shared.noise;
    const PerlinLattice<Lane> lattice(noise);
    const float down = static_cast<float>(shared.top + row) + 0.5f;
    const float x = fused(noise.x[1], down, noise.x[2]), y = fused(noise.y[1], down, noise.y[2]);
    uint32_t entries = 0;
    FDSL_UNROLL
    for (int k = 0; k < PIECE; ++k) {
      const float across = static_cast<float>(shared.first + (column + k) * shared.right) + 0.5f;
      const uint32_t level = lattice.level(fused(noise.x[0], across, x), fused(noise.y[0], across, y));
      entries |= (color ? 1 + level / 2 : level) << 8 * k;  // once round the hues
    }
    return [=](int) { return entries; };
  });
}

}  // namespace fdsl

FDSL_SIZE(perlin_task, fdsl::PerlinTask)
FDSL_KERNEL(draw_perlin, PerlinTask)
