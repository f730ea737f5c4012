// Batches of affine systems, in the plane or in space, drawn or measured.
#pragma once

#include "cpu/engine.h"
#include "shared/spatial_ifs.h"

namespace fdsl {

constexpr size_t LARGEST_BYTE_GRID = 64 * 1024;  // cells of a picture that is hit as bytes, not bits

// One picture to draw: parameters of its category, its instance, and where the pixels go (channels, size, size).
template <class Instance>
struct PointTask {
  const Spec* spec;
  const Instance* instance;
  const double* affine;
  const double* probability;
  int maps;
  Palette palette;
  uint8_t* out;
};

using AffineTask = PointTask<AffineInstance>;
using SpatialTask = PointTask<SpatialInstance>;

// A catalog's parameters: affine (C, M, 6), in space (C, M, 12), probability (C, M), maps (C).
struct AffineParameters {
  const double* affine;
  const double* probability;
  const int32_t* maps;
  int width;  // M

  // A large catalog's arrays were not read when it was opened: no number in them may lead out of the row.
  FDSL_MEMBER int maps_of(uint32_t category) const {
    return maps[category] < 1 ? 1 : maps[category] > width ? width : maps[category];
  }
};

// What a drawing needs of its thread: two planes of bits, or of numbers, or one of bytes; with room for a shift's
// reach.
size_t picture_words(const Spec& spec);

void draw_affine_batch(const Kernel& kernel, const AffineParameters& parameters, const AffineInstance* instances,
                       const Batch& batch);
void measure_affine_batch(const Kernel& kernel, const AffineParameters& parameters, const AffineInstance* instances,
                          size_t count, const Spec& spec, const int32_t* enough, Measurement* out, int threads);

void draw_spatial_batch(const Kernel& kernel, const AffineParameters& parameters, const SpatialInstance* instances,
                        const Batch& batch);
void measure_spatial_batch(const Kernel& kernel, const AffineParameters& parameters, const SpatialInstance* instances,
                           size_t count, const Spec& spec, float least, SpatialMeasurement* out, int threads);

}  // namespace fdsl
