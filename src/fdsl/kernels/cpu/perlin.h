// Batches of pictures of gradient noise.
#pragma once

#include "cpu/engine.h"
#include "shared/perlin.h"

namespace fdsl {

struct PerlinInstance : Key {};

// One picture to draw: its instance, the lattice cells along its sides, and where the pixels go (channels, size, size).
struct PerlinTask {
  const Spec* spec;
  const PerlinInstance* instance;
  int fx, fy;
  Palette palette;
  uint8_t* out;
};

// A catalog's `frequencies` are (C, 2).
void draw_perlin_batch(const Kernel& kernel, const int32_t* frequencies, const PerlinInstance* instances,
                       const Batch& batch);

}  // namespace fdsl
