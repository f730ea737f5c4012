// The cpu engine: one table of functions per instruction set, and what the pictures of a batch share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "shared/grid.h"

namespace fdsl {

constexpr int32_t MAX_SIZE = 4096;       // pixels of a picture's side
constexpr int32_t MAX_POINTS = 1 << 24;  // of a picture

// Rows of `channels` bytes: the ground first, then what else a pixel can hold.
struct Palette {
  const uint8_t* value;
  int channels;
};

// A batch to draw: pictures (count, channels, size, size), one after the other.
struct Batch {
  const Spec& spec;
  Palette palette;
  uint8_t* out;
  size_t count;
  int threads;

  uint8_t* picture(size_t i) const { return out + i * palette.channels * spec.size * spec.size; }
};

template <class Instance>
struct PointTask;
struct AffineInstance;
struct ContourTask;
struct BezierTask;
struct PerlinTask;
struct GivenPointsTask;
struct GivenPolylinesTask;
struct Measurement;
struct SpatialInstance;
struct SpatialMeasurement;
struct CloudTask;
struct CloudPictureTask;

// What each instruction set compiles in a file of its own.
struct Kernel {
  const char* name;
  void (*draw_affine)(const PointTask<AffineInstance>&, void* scratch);
  Measurement (*measure_affine)(const PointTask<AffineInstance>&, int32_t enough, void* scratch);
  void (*draw_spatial)(const PointTask<SpatialInstance>&, void* scratch);
  SpatialMeasurement (*measure_spatial)(const PointTask<SpatialInstance>&, float least);
  void (*draw_cloud)(const CloudTask&, void* scratch);
  void (*draw_cloud_picture)(const CloudPictureTask&, void* scratch);
  void (*draw_contours)(const ContourTask&, void* scratch);
  void (*draw_bezier)(const BezierTask&);
  void (*draw_perlin)(const PerlinTask&, void* scratch);
  void (*draw_given_points)(const GivenPointsTask&, void* scratch);
  void (*draw_given_polylines)(const GivenPolylinesTask&, void* scratch);
};

extern const Kernel kernel_portable;
#if defined(__x86_64__)
extern const Kernel kernel_avx2, kernel_avx512;
#elif defined(__aarch64__)
extern const Kernel kernel_neon;
#endif

// The kernel named, or the best that this machine runs where `name` is empty; null where it can't run here.
const Kernel* find_kernel(const char* name);

}  // namespace fdsl
