// A layer of RandAugment: one operation a picture, bytes in, bytes out. Only pictures that change are read and written.
// A first kernel counts the levels of those whose operation needs that; blocks then make a table of 256 levels for
// their strip, or work on its pixels.
//
// What bounds it: memory, two bytes a value that changes; equalize, autocontrast and contrast read theirs twice, the
// second time mostly from the L2 cache. A warp's four reads a value are bytes from the first-level cache, and bound it.
#include "cuda/levels.h"

namespace fdsl {

// Of train/rand_augment.py, by their places there.
enum Operation : int32_t {
  AUTO_CONTRAST,
  EQUALIZE,
  INVERT,
  ROTATE,
  POSTERIZE,
  SOLARIZE,
  SOLARIZE_ADD,
  COLOR,
  CONTRAST,
  BRIGHTNESS,
  SHARPNESS,
  SHEAR_X,
  SHEAR_Y,
  TRANSLATE_X,
  TRANSLATE_Y,
};

// What is done to a picture; train/fused_augmentation.py packs it, and the task.
struct Change {
  const uint8_t* from;
  uint8_t* to;
  void* sums;       // for contrast of its grays, an int64; for equalize and autocontrast counts of levels
  float number[6];  // of warps the matrix, else the argument
  int32_t operation;
  int32_t unused;

  FDSL_MEMBER int64_t* gray_sum() const { return global(static_cast<int64_t*>(sums)); }
  FDSL_MEMBER uint32_t* counts(int channel) const { return global(static_cast<uint32_t*>(sums)) + channel * LEVELS; }
};

struct LayerTask {
  const Change* changes;
  Layout layout;
  float fill[3];
  float across, down;  // 2 / width, 2 / height
  int32_t unused;
};

template <int CHANNELS>
FDSL_INLINE void count_levels(const Block& block, const LayerTask& task) {
  const Layout layout = task.layout;
  struct Shared {
    Change change;
    Sum sum;
    uint32_t counts[CHANNELS][LEVELS];
  };
  static_assert(sizeof(Shared) <= AUGMENT_BYTES);
  auto& shared = block.shared<Shared>();
  const Change& change = shared.change;
  Block::Local<float> mine;
  block.each([&](int thread) {
    if (thread == 0) shared.change = task.changes[block.number() / layout.strips];
    shared.sum.clear(thread);
    for (auto& counts : shared.counts) counts[thread] = 0;
    mine[thread] = 0.0f;
  });
  if (change.operation == CONTRAST) {
    each_run<8>(block, layout, [&](auto size, int thread, int first) {
      constexpr int COUNT = decltype(size)::VALUE;
      Run<float, CHANNELS, COUNT> run;
      load(layout, change.from, first, run);
      FDSL_UNROLL
      for (int k = 0; k < COUNT; ++k) mine[thread] += gray(run, k);
    });
    block.each([&](int thread) { shared.sum.add(thread, mine[thread]); });
    block.each([&](int thread) { shared.sum.add_to(thread, change.gray_sum()); });
    return;
  }
  each_run<8>(block, layout, [&](auto size, int, int first) {
    constexpr int COUNT = decltype(size)::VALUE;
    Run<uint32_t, CHANNELS, COUNT> run;
    load(layout, change.from, first, run);
    // Equal neighbours are counted at once: most of a picture may be ground, where all threads would meet.
    FDSL_UNROLL
    for (int c = 0; c < CHANNELS; ++c) {
      uint32_t level = run.at[c][0], equal = 1;
      FDSL_UNROLL
      for (int k = 1; k < COUNT; ++k) {
        if (run.at[c][k] != level) {
          atomic_add(&shared.counts[c][level], equal);
          level = run.at[c][k];
          equal = 0;
        }
        ++equal;
      }
      atomic_add(&shared.counts[c][level], equal);
    }
  });
  block.each([&](int level) {
    for (int c = 0; c < CHANNELS; ++c)
      if (const uint32_t many = shared.counts[c][level]) atomic_add(&change.counts(c)[level], many);
  });
}

template <int CHANNELS>
struct Tables {
  uint8_t level[CHANNELS][LEVELS];
  uint32_t below[CHANNELS][LEVELS];  // pixels of lower levels
  int32_t low[CHANNELS], high[CHANNELS];
};

// What becomes of a level, of operations that look at nothing else.
FDSL_INLINE float changed(const Change& change, float level, int pixels) {
  const float number = change.number[0];
  switch (change.operation) {
    case INVERT:
      return 255.0f - level;
    case POSTERIZE:
      return static_cast<float>(byte_of(level) & 255u << (8 - truncated(number)));
    case SOLARIZE:
      return level < number ? level : 255.0f - level;
    case SOLARIZE_ADD:
      return level < 128.0f ? level + number : level;
    case CONTRAST: {
      const float mean = mean_of(*change.gray_sum(), pixels);
      return (level - mean) * number + mean;
    }
    default:
      return level * number;  // brightness
  }
}

// In float64 and in this order, as Pillow's Python does it.
FDSL_INLINE uint32_t stretched(int level, int low, int high) {
  if (high <= low) return level;
  const double scale = 255.0 / (high - low), value = level * scale + -static_cast<double>(low) * scale;
  return value <= 0.0 ? 0u : value >= 255.0 ? 255u : static_cast<uint32_t>(value);
}

template <int CHANNELS>
FDSL_INLINE void make_tables(const Block& block, Layout layout, const Change& change, Tables<CHANNELS>& tables) {
  const int32_t operation = change.operation;
  const uint32_t pixels = layout.pixels();
  if (operation != AUTO_CONTRAST && operation != EQUALIZE) {
    block.each([&](int level) {
      const float to = changed(change, level_of(level), layout.pixels());
      for (auto& table : tables.level) table[level] = static_cast<uint8_t>(byte_of(cut_off(to)));
    });
    return;
  }
  block.each([&](int level) {
    if (level >= CHANNELS) return;
    tables.low[level] = LEVELS;
    tables.high[level] = -1;
  });
  block.each([&](int level) {
    for (int c = 0; c < CHANNELS; ++c) {
      const uint32_t many = change.counts(c)[level];
      if (many) {
        atomic_min(&tables.low[c], level);
        atomic_max(&tables.high[c], level);
      }
      if (level + 1 < LEVELS) tables.below[c][level + 1] = many;
      if (level == 0) tables.below[c][0] = 0;
    }
  });
  if (operation == AUTO_CONTRAST) {
    block.each([&](int level) {
      for (int c = 0; c < CHANNELS; ++c)
        tables.level[c][level] = static_cast<uint8_t>(stretched(level, tables.low[c], tables.high[c]));
    });
    return;
  }
  for (int reach = 1; reach < LEVELS; reach *= 2) {  // sums of as many levels as there are below
    Block::Local<uint32_t> further[CHANNELS];
    block.each([&](int level) {
      for (int c = 0; c < CHANNELS; ++c) further[c][level] = level < reach ? 0 : tables.below[c][level - reach];
    });
    block.each([&](int level) {
      for (int c = 0; c < CHANNELS; ++c) tables.below[c][level] += further[c][level];
    });
  }
  block.each([&](int level) {
    for (int c = 0; c < CHANNELS; ++c) {
      const uint32_t step = (pixels - change.counts(c)[tables.high[c]]) / 255;
      const uint32_t to = step ? (step / 2 + tables.below[c][level]) / step : level;
      tables.level[c][level] = static_cast<uint8_t>(to < 255 ? to : 255);
    }
  });
}

template <int CHANNELS>
FDSL_INLINE void apply_tables(const Block& block, Layout layout, const Change& change, const Tables<CHANNELS>& tables) {
  each_run<8>(block, layout, [&](auto size, int, int first) {
    constexpr int COUNT = decltype(size)::VALUE;
    Run<uint32_t, CHANNELS, COUNT> run;
    load(layout, change.from, first, run);
    store<CHANNELS, COUNT>(layout, layout.channels_last, change.to, first,
                           [&](int c, int k) { return tables.level[c][run.at[c][k]]; });
  });
}

template <int CHANNELS>
FDSL_INLINE void color(const Block& block, Layout layout, const Change& change) {
  each_run<8>(block, layout, [&](auto size, int, int first) {
    constexpr int COUNT = decltype(size)::VALUE;
    Run<float, CHANNELS, COUNT> run;
    load(layout, change.from, first, run);
    FDSL_UNROLL
    for (int k = 0; k < COUNT; ++k) {
      const float degenerate = gray(run, k);
      FDSL_UNROLL
      for (int c = 0; c < CHANNELS; ++c) run.at[c][k] = blended(degenerate, run.at[c][k], change.number[0]);
    }
    store<CHANNELS, COUNT>(layout, layout.channels_last, change.to, first,
                           [&](int c, int k) { return static_cast<uint8_t>(byte_of(run.at[c][k])); });
  });
}

// How far apart a picture's pixels, and its channels, lie.
template <int CHANNELS>
struct Steps {
  int pixel;
  int64_t channel;

  explicit FDSL_MEMBER Steps(const Layout& layout)
      : pixel(layout.channels_last ? CHANNELS : 1), channel(layout.channels_last ? 1 : layout.pixels()) {}
};

// Weights 1, in the middle 5, divided by 13 and rounded; the border stays.
template <int CHANNELS>
FDSL_INLINE void sharpen(const Block& block, Layout layout, const Change& change) {
  const Steps<CHANNELS> steps(layout);
  const int width = layout.width, last = layout.pixels() - 1;
  const Rectangle inner = {1, 1, layout.height - 2, width - 2};
  each_run<4>(block, layout, [&](auto size, int, int first) {
    constexpr int COUNT = decltype(size)::VALUE;
    Run<float, CHANNELS, COUNT> run;
    load(layout, change.from, first, run);
    FDSL_UNROLL
    for (int c = 0; c < CHANNELS; ++c) {
      const uint8_t* channel = global(change.from) + c * steps.channel;
      int of_three[COUNT + 2];  // of a pixel, and those above and below; beside the border it does not matter
      FDSL_UNROLL
      for (int k = 0; k < COUNT + 2; ++k) {
        of_three[k] = 0;
        FDSL_UNROLL
        for (int down = -1; down <= 1; ++down) {
          int pixel = first + k - 1 + down * width;
          pixel = pixel < 0 ? 0 : pixel > last ? last : pixel;
          of_three[k] += channel[static_cast<int64_t>(pixel) * steps.pixel];
        }
      }
      Position here(first, width);
      FDSL_UNROLL
      for (int k = 0; k < COUNT; ++k, here.step()) {
        const float level = run.at[c][k];
        if (!here.in(inner)) continue;
        const float sum = 4.0f * level + static_cast<float>(of_three[k] + of_three[k + 1] + of_three[k + 2]);
        run.at[c][k] = blended(cut_off(sum * (1.0f / 13) + 0.5f), level, change.number[0]);
      }
    }
    store<CHANNELS, COUNT>(layout, layout.channels_last, change.to, first,
                           [&](int c, int k) { return static_cast<uint8_t>(byte_of(run.at[c][k])); });
  });
}

// Between which two of `count` pixels, and how far, a place is that torch's grid_sample has as -1 to 1.
struct Between {
  int low, high;
  float share;

  FDSL_MEMBER Between(float place, int count) {
    const float most = static_cast<float>(count - 1), at = (place + 1.0f) * (static_cast<float>(count) * 0.5f) - 0.5f;
    const float within = at < 0.0f ? 0.0f : at > most ? most : at;
    low = truncated(within);
    high = low < count - 1 ? low + 1 : low;
    share = within - static_cast<float>(low);
  }
};

// Bilinearly; Pillow cuts fractions off.
template <int CHANNELS>
FDSL_INLINE void warp(const Block& block, const LayerTask& task, const Change& change) {
  const Layout layout = task.layout;
  const Steps<CHANNELS> steps(layout);
  float m[6];
  for (int k = 0; k < 6; ++k) m[k] = change.number[k];
  const float slope_x = task.across * m[0], slope_y = task.down * m[3];
  each_run<4>(block, layout, [&](auto size, int, int first) {
    constexpr int COUNT = decltype(size)::VALUE;
    Run<float, CHANNELS, COUNT> run;
    Position here(first, layout.width);
    FDSL_UNROLL
    for (int k = 0; k < COUNT; ++k, here.step()) {
      const float x = static_cast<float>(here.column) + 0.5f, y = static_cast<float>(here.row) + 0.5f;
      const float across = slope_x * x + (task.across * (m[1] * y + m[2]) - 1.0f + 0x1p-22f);
      const float down = slope_y * x + (task.down * (m[4] * y + m[5]) - 1.0f + 0x1p-22f);
      const bool inside = across > -1.0f && across < 1.0f && down > -1.0f && down < 1.0f;
      const Between h(across, layout.width), v(down, layout.height);
      const float west = 1.0f - h.share, north = 1.0f - v.share;
      const float weight[4] = {west * north, h.share * north, west * v.share, h.share * v.share};
      const int64_t tap[4] = {
          v.low * static_cast<int64_t>(layout.width) + h.low, v.low * static_cast<int64_t>(layout.width) + h.high,
          v.high * static_cast<int64_t>(layout.width) + h.low, v.high * static_cast<int64_t>(layout.width) + h.high};
      FDSL_UNROLL
      for (int c = 0; c < CHANNELS; ++c) {
        const uint8_t* channel = global(change.from) + c * steps.channel;
        float sum = 0.0f;
        FDSL_UNROLL
        for (int t = 0; t < 4; ++t) sum = fused(level_of(channel[tap[t] * steps.pixel]), weight[t], sum);
        // A sixty-fourth is more than what rounding takes away from a whole number.
        run.at[c][k] = inside ? cut_off(sum + 1.0f / 64) : task.fill[c];
      }
    }
    store<CHANNELS, COUNT>(layout, layout.channels_last, change.to, first,
                           [&](int c, int k) { return static_cast<uint8_t>(byte_of(run.at[c][k])); });
  });
}

template <int CHANNELS>
FDSL_INLINE void change_pictures(const Block& block, const LayerTask& task) {
  struct Shared {
    Change change;
    Tables<CHANNELS> tables;
  };
  static_assert(sizeof(Shared) <= AUGMENT_BYTES);
  auto& shared = block.shared<Shared>();
  const Change& change = shared.change;
  block.each([&](int thread) {
    if (thread == 0) shared.change = task.changes[block.number() / task.layout.strips];
  });
  switch (change.operation) {
    case ROTATE:
    case SHEAR_X:
    case SHEAR_Y:
    case TRANSLATE_X:
    case TRANSLATE_Y:
      return warp<CHANNELS>(block, task, change);
    case COLOR:
      return color<CHANNELS>(block, task.layout, change);
    case SHARPNESS:
      return sharpen<CHANNELS>(block, task.layout, change);
    default:
      make_tables<CHANNELS>(block, task.layout, change, shared.tables);
      apply_tables<CHANNELS>(block, task.layout, change, shared.tables);
  }
}

#define FDSL_LAYER_KERNELS(channels)                                                       \
  FDSL_INLINE void count_levels_##channels(const Block& b, const LayerTask& t, void*) {    \
    count_levels<channels>(b, t);                                                          \
  }                                                                                        \
  FDSL_INLINE void change_pictures_##channels(const Block& b, const LayerTask& t, void*) { \
    change_pictures<channels>(b, t);                                                       \
  }
FDSL_LAYER_KERNELS(1)
FDSL_LAYER_KERNELS(3)

}  // namespace fdsl

FDSL_SIZE(change, fdsl::Change)
FDSL_SIZE(layer_task, fdsl::LayerTask)
FDSL_KERNEL(count_levels_1, LayerTask)
FDSL_KERNEL(count_levels_3, LayerTask)
FDSL_KERNEL(change_pictures_1, LayerTask)
FDSL_KERNEL(change_pictures_3, LayerTask)
