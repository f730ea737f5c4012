// Drawing one picture of gradient noise on one CPU thread, over any lane type.
//
// What bounds it: the arithmetic of the noise (shared/perlin.h), a row at a time; memory plays no part.
#pragma once

#include "cpu/perlin.h"

namespace fdsl {

template <class V>
void draw_perlin(const PerlinTask& task, void* scratch) {
  const Spec& spec = *task.spec;
  const int size = spec.size, channels = task.palette.channels;
  const Window w = place_window(spec, *task.instance, spec.of, spec.of, 0.0, 0.0);
  const PerlinNoise noise = perlin_noise(spec, *task.instance, w.placement, task.fx, task.fy);
  const PerlinLattice<V> lattice(noise);
  const int padded = (size + V::WIDTH - 1) / V::WIDTH * V::WIDTH;
  uint32_t* levels = static_cast<uint32_t*>(scratch);
  float* columns = reinterpret_cast<float*>(levels + padded);
  for (int i = 0; i < padded; ++i) columns[i] = static_cast<float>(w.left + (w.mirror ? size - 1 - i : i)) + 0.5f;
  uint32_t hues[256];  // once round, a channel to a byte
  if (spec.color == COLOR_COLOR)
    for (int level = 0; level < 256; ++level) {
      const uint8_t* value = task.palette.value + (1 + level / 2) * channels;
      hues[level] = value[0] | value[1] << 8 | value[2] << 16;
    }
  for (int row = 0; row < size; ++row) {
    const float centre = static_cast<float>(w.top + row) + 0.5f;
    const auto x = V::set(fused(noise.x[1], centre, noise.x[2])), y = V::set(fused(noise.y[1], centre, noise.y[2]));
    const auto dx = V::set(noise.x[0]), dy = V::set(noise.y[0]);
    for (int i = 0; i < size; i += V::WIDTH) {
      const auto column = V::load(columns + i);
      V::store(levels + i, lattice.level(V::fma(dx, column, x), V::fma(dy, column, y)));
    }
    if (spec.color == COLOR_COLOR)
      for (int i = 0; i < size; ++i) levels[i] = hues[levels[i]];
    for (int c = 0; c < channels; ++c) {
      uint8_t* out = task.out + (static_cast<size_t>(c) * size + row) * size;
      const int byte = spec.color == COLOR_COLOR ? 8 * c : 0;
      for (int i = 0; i < size; ++i) out[i] = static_cast<uint8_t>(levels[i] >> byte);
    }
  }
}

}  // namespace fdsl
