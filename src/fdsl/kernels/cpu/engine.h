// The cpu engine: one table of functions per instruction set, and the threads that share a batch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "shared/picture.h"

namespace fdsl {

constexpr uint32_t HUES = 128;            // period of the colour along a trajectory
constexpr uint32_t DENSITY_LEVELS = 256;  // counts from here on look alike

constexpr size_t LARGEST_BYTE_GRID = 64 * 1024;  // cells of a picture that is hit as bytes, not bits

// Rows of `channels` bytes: background first, then gray, or the hues, or the density levels.
struct Palette {
  const uint8_t* value;
  int channels;
};

// One picture to draw: parameters of its category, its instance, and where the pixels go (channels, size, size).
struct Task {
  const Spec* spec;
  const Instance* instance;
  const double* affine;
  const double* probability;
  int maps;
  Palette palette;
  uint8_t* out;
};

// What a search and a probe want to know of a picture.
struct Measurement {
  Box box;
  int32_t pixels;
  bool finite;
};

struct Kernel {
  const char* name;
  void (*draw)(const Task&, void* scratch);
  Measurement (*measure)(const Task&, int32_t enough, void* scratch);
};

extern const Kernel kernel_portable;
#if defined(__x86_64__)
extern const Kernel kernel_avx2, kernel_avx512;
#elif defined(__aarch64__)
extern const Kernel kernel_neon;
#endif

// The kernel named, or the best that this machine runs where `name` is empty; null where it can't run here.
const Kernel* find_kernel(const char* name);

// A catalog's parameters: affine (C, M, 6), probability (C, M), maps (C).
struct Parameters {
  const double* affine;
  const double* probability;
  const int32_t* maps;
  int width;  // M
};

// Pictures [0, count) of `instances`, drawn by `threads` threads (this one among them) into out.
void draw_batch(const Kernel& kernel, const Parameters& parameters, const Instance* instances, size_t count,
                const Spec& spec, const Palette& palette, uint8_t* out, int threads);
void measure_batch(const Kernel& kernel, const Parameters& parameters, const Instance* instances, size_t count,
                   const Spec& spec, const int32_t* enough, Measurement* out, int threads);

}  // namespace fdsl
