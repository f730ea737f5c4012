// Levels, 0 to 255, of pixels that a thread has at once: how they come and go, and what augmentation does to them.
// They are floats that hold whole numbers, and every operation is rounded by itself, as in train/rand_augment.py.
#pragma once

#include "cuda/block.h"

namespace fdsl {

constexpr int STRIP = 8192;          // pixels of a picture that a block has; train/fused_augmentation.py
constexpr int AUGMENT_BYTES = 4096;  // of a block's shared memory; likewise
constexpr int LEVELS = 256;

// How the pictures of a batch lie in memory.
struct Layout {
  int32_t height, width;
  int32_t strips;         // of a picture
  int32_t channels_last;  // of those of bytes
  int32_t whole_runs;     // pixels are a multiple of 16, and pictures begin at multiples of 16 bytes
  int32_t unused;

  FDSL_MEMBER int pixels() const { return height * width; }
};

#if defined(__CUDACC__)
#define FDSL_ROLLED _Pragma("unroll 1")
// What comes from a record is not known to lie in the GPU's memory, and would be read by slower instructions.
template <class T>
FDSL_INLINE T* global(T* pointer) {
  __builtin_assume(__isGlobal(pointer));
  return pointer;
}
#else
#define FDSL_ROLLED
template <class T>
FDSL_INLINE T* global(T* pointer) {
  return pointer;
}
#endif

// So many pixels that follow one another.
template <class T, int CHANNELS, int COUNT>
struct Run {
  T at[CHANNELS][COUNT];
};

// Elements that come and go together.
template <class Element, int COUNT>
struct alignas(sizeof(Element) * COUNT) Pack {
  Element element[COUNT];
};

// Without the conversion unit, which is slow: a float from 2^23 on is a whole number, whose last bits are its own.
FDSL_INLINE float level_of(uint32_t byte) { return bits_float(static_cast<int32_t>(0x4B000000u | byte)) - 0x1p23f; }
FDSL_INLINE uint32_t byte_of(float level) { return static_cast<uint32_t>(float_bits(level + 0x1p23f)) & 255u; }
// Cut off to 0 … 255, and toward zero.
FDSL_INLINE float cut_off(float value) {
#if defined(__CUDACC__)
  return __fadd_rz(fminf(fmaxf(value, 0.0f), 255.0f), 0x1p23f) - 0x1p23f;
#else
  return value <= 0.0f ? 0.0f : value >= 255.0f ? 255.0f : rounded_down(value);
#endif
}

FDSL_INLINE void take(float& to, uint32_t byte) { to = level_of(byte); }
FDSL_INLINE void take(uint32_t& to, uint32_t byte) { to = byte; }

struct Rectangle {
  int32_t top, left, rows, columns;
};

// Where a pixel is, and whether in a rectangle.
struct Position {
  int row, column, width;

  FDSL_MEMBER Position(int pixel, int width) : row(pixel / width), column(pixel % width), width(width) {}
  FDSL_MEMBER void step() {
    if (++column < width) return;
    column = 0;
    ++row;
  }
  FDSL_MEMBER bool in(const Rectangle& r) const {
    return static_cast<uint32_t>(row - r.top) < static_cast<uint32_t>(r.rows) &&
           static_cast<uint32_t>(column - r.left) < static_cast<uint32_t>(r.columns);
  }
};

template <int COUNT>
struct Size {
  static constexpr int VALUE = COUNT;
};

template <int COUNT, class Visit>
FDSL_INLINE void each_run_of(const Block& block, const Layout& layout, Visit visit) {
  const int begin = block.number() % layout.strips * STRIP, left = layout.pixels() - begin;
  const int end = begin + (left < STRIP ? left : STRIP);
  block.each([&](int thread) {
    FDSL_ROLLED
    for (int first = begin + thread * COUNT; first < end; first += THREADS * COUNT) visit(Size<COUNT>(), thread, first);
  });
}

// Calls visit(size, thread, first) for a strip's runs of size.VALUE pixels: COUNT of them, or where those are not whole
// one, by the same code.
template <int COUNT, class Visit>
FDSL_INLINE void each_run(const Block& block, const Layout& layout, Visit visit) {
  if (layout.whole_runs)
    each_run_of<COUNT>(block, layout, visit);
  else
    each_run_of<1>(block, layout, visit);
}

// Where the part `part` of a run begins: a channel of it, or with the channels last so many of its values.
template <bool CHANNELS_LAST, int CHANNELS, int COUNT, class T>
FDSL_INLINE T* part_of(const Layout& layout, T* picture, int first, int part) {
  if constexpr (CHANNELS_LAST) return global(picture) + static_cast<int64_t>(first) * CHANNELS + part * COUNT;
  return global(picture) + static_cast<int64_t>(layout.pixels()) * part + first;
}

template <bool CHANNELS_LAST, class T, int CHANNELS, int COUNT>
FDSL_INLINE void load_run(const Layout& layout, const uint8_t* picture, int first, Run<T, CHANNELS, COUNT>& run) {
  FDSL_UNROLL
  for (int part = 0; part < CHANNELS; ++part) {
    const uint8_t* from = part_of<CHANNELS_LAST, CHANNELS, COUNT>(layout, picture, first, part);
    if constexpr (COUNT == 1) {
      take(run.at[part][0], *from);
    } else {
      const auto words = *reinterpret_cast<const Pack<uint32_t, COUNT / 4>*>(from);
      FDSL_UNROLL
      for (int i = 0; i < COUNT; ++i) {
        const int k = part * COUNT + i;
        take(CHANNELS_LAST ? run.at[k % CHANNELS][k / CHANNELS] : run.at[part][i],
             words.element[i / 4] >> 8 * (i % 4) & 255u);
      }
    }
  }
}

// Levels of a picture's pixels from `first` on.
template <class T, int CHANNELS, int COUNT>
FDSL_INLINE void load(const Layout& layout, const uint8_t* picture, int first, Run<T, CHANNELS, COUNT>& run) {
  if (CHANNELS > 1 && layout.channels_last)
    load_run<true>(layout, picture, first, run);
  else
    load_run<false>(layout, picture, first, run);
}

template <bool CHANNELS_LAST, class Element, int CHANNELS, int COUNT, class Get>
FDSL_INLINE void store_run(const Layout& layout, Element* picture, int first, Get get) {
  FDSL_UNROLL
  for (int part = 0; part < CHANNELS; ++part) {
    Pack<Element, COUNT> pack;
    FDSL_UNROLL
    for (int i = 0; i < COUNT; ++i) {
      const int k = part * COUNT + i;
      pack.element[i] = CHANNELS_LAST ? get(k % CHANNELS, k / CHANNELS) : get(part, i);
    }
    *reinterpret_cast<Pack<Element, COUNT>*>(part_of<CHANNELS_LAST, CHANNELS, COUNT>(layout, picture, first, part)) =
        pack;
  }
}

// Writes get(channel, k) to the pixels first + k of a picture.
template <int CHANNELS, int COUNT, class Element, class Get>
FDSL_INLINE void store(const Layout& layout, bool channels_last, Element* picture, int first, Get get) {
  if (CHANNELS > 1 && channels_last)
    store_run<true, Element, CHANNELS, COUNT>(layout, picture, first, get);
  else
    store_run<false, Element, CHANNELS, COUNT>(layout, picture, first, get);
}

// Luma as Pillow rounds it, (19595 r + 38470 g + 7471 b + 32768) >> 16: no partial sum needs more than a float's bits.
template <int CHANNELS, int COUNT>
FDSL_INLINE float gray(const Run<float, CHANNELS, COUNT>& run, int k) {
  if constexpr (CHANNELS == 1) return run.at[0][k];
  const float blue = fused(run.at[CHANNELS - 1][k], 7471.0f / 65536, 0.5f);
  return cut_off(fused(run.at[0][k], 19595.0f / 65536, fused(run.at[CHANNELS / 2][k], 38470.0f / 65536, blue)));
}

// From the degenerate picture (factor 0) to the picture itself (1) and on.
FDSL_INLINE float blended(float degenerate, float level, float factor) {
  return cut_off((level - degenerate) * factor + degenerate);
}

// The mean of a picture's grays, a half up.
FDSL_INLINE float mean_of(int64_t sum, int64_t pixels) { return static_cast<float>((2 * sum + pixels) / (2 * pixels)); }

// Whole numbers of all threads, added up: 32 addresses, so that no two threads of a warp meet at one.
struct Sum {
  int32_t part[32];

  FDSL_MEMBER void clear(int thread) {
    if (thread < 32) part[thread] = 0;
  }
  FDSL_MEMBER void add(int thread, float whole) { atomic_add(&part[thread % 32], truncated(whole)); }
  FDSL_MEMBER void add_to(int thread, int64_t* total) const {
    if (thread > 0) return;
    int64_t sum = 0;
    for (int32_t some : part) sum += some;
    atomic_add(total, sum);
  }
};

}  // namespace fdsl
