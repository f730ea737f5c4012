// Colour jitter, normalisation, random erasing and mixing of a batch, in one pass: bytes in, floats out. The picture i
// is mixed with the last but i, so that a block has a strip of both, and reads and writes each once.
//
// What bounds it: memory. A picture costs channels * height * width bytes that are read and 4 (or 2) times as many that
// are written, and where its colours are jittered as many that are read before, for the mean that contrast needs; they
// mostly lie in the L2 cache then. With jitter a value takes some 35 operations, which may bound it where 16 bits are
// written; that was not measured yet.
#include "cuda/levels.h"

namespace fdsl {

// Of train/rand_augment.py, by their places there.
enum Jitter : int32_t { NO_JITTER = -1, COLOR = 7, CONTRAST = 8, BRIGHTNESS = 9 };

// What is done to a picture; train/fused_augmentation.py packs it, and the task.
struct Sample {
  const uint8_t* pixels;
  int64_t noise;  // where that of the erased rectangle begins
  float factor[3];
  int32_t operation[3];  // of colour jitter, one after the other
  Rectangle erased;
};

struct AugmentTask {
  const Sample* samples;
  const float* noise;
  int64_t* gray_sums;  // of the pictures, as contrast finds them
  Layout layout;
  int32_t pictures;
  int32_t channels_last;  // of the output
  float scale[3], shift[3];
  float weight;       // of the other picture in mixup, or 0
  Rectangle swapped;  // by CutMix
  int32_t unused;
};

template <int CHANNELS, int COUNT>
FDSL_INLINE void jitter(Run<float, CHANNELS, COUNT>& run, int32_t operation, float factor, float mean) {
  FDSL_UNROLL
  for (int k = 0; k < COUNT; ++k) {
    const float degenerate = operation == COLOR ? gray(run, k) : operation == CONTRAST ? mean : 0.0f;
    FDSL_UNROLL
    for (int c = 0; c < CHANNELS; ++c) run.at[c][k] = blended(degenerate, run.at[c][k], factor);
  }
}

// Grays of a strip, as they are when contrast's turn comes.
template <int CHANNELS>
FDSL_INLINE void sum_grays(const Block& block, const AugmentTask& task) {
  const Layout layout = task.layout;
  struct Shared {
    Sample sample;
    Sum sum;
  };
  static_assert(sizeof(Shared) <= AUGMENT_BYTES);
  auto& shared = block.shared<Shared>();
  const int picture = block.number() / layout.strips;
  Block::Local<float> mine;  // of 32 pixels: exact
  block.each([&](int thread) {
    if (thread == 0) shared.sample = task.samples[picture];
    shared.sum.clear(thread);
    mine[thread] = 0.0f;
  });
  each_run<8>(block, layout, [&](auto size, int thread, int first) {
    constexpr int COUNT = decltype(size)::VALUE;
    const Sample& sample = shared.sample;
    Run<float, CHANNELS, COUNT> run;
    load(layout, sample.pixels, first, run);
    FDSL_ROLLED
    for (int turn = 0; turn < 3 && sample.operation[turn] != CONTRAST; ++turn)
      if (sample.operation[turn] != NO_JITTER) jitter(run, sample.operation[turn], sample.factor[turn], 0.0f);
    FDSL_UNROLL
    for (int k = 0; k < COUNT; ++k) mine[thread] += gray(run, k);
  });
  block.each([&](int thread) { shared.sum.add(thread, mine[thread]); });
  block.each([&](int thread) { shared.sum.add_to(thread, &task.gray_sums[picture]); });
}

// What an output holds, of a float that is rounded once, to even.
struct Single {
  using Element = uint32_t;
  static FDSL_MEMBER Element of(float value) { return static_cast<uint32_t>(float_bits(value)); }
};

struct Brain {
  using Element = uint16_t;
  static FDSL_MEMBER Element of(float value) {  // no NaN
    const uint32_t bits = static_cast<uint32_t>(float_bits(value));
    return static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
  }
};

struct Half {
  using Element = uint16_t;
  static FDSL_MEMBER Element of(float value) {
#if defined(__CUDACC__)
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#else
    const uint32_t sign = static_cast<uint32_t>(float_bits(value)) >> 16 & 0x8000u;
    const float size = value < 0.0f ? -value : value;
    if (size >= 65520.0f) return static_cast<uint16_t>(sign | 0x7C00u);
    // The unit of the last bit, of which the smallest is 2^-24, is added and taken away: the sum is rounded to it.
    const int exponent = float_bits(size) >> 23 < 113 ? 113 : float_bits(size) >> 23;
    const float big = bits_float((exponent + 13) << 23);
    const float whole = (size + big - big) * bits_float((254 - exponent + 10) << 23);
    return static_cast<uint16_t>(sign |
                                 (static_cast<uint32_t>((exponent - 113) * 1024) + static_cast<uint32_t>(whole)));
#endif
  }
};

// A run of a picture before it is mixed.
template <int CHANNELS, int COUNT>
FDSL_INLINE void finish(const AugmentTask& task, const Sample& sample, float mean, int first,
                        Run<float, CHANNELS, COUNT>& run) {
  load(task.layout, sample.pixels, first, run);
  FDSL_ROLLED
  for (int turn = 0; turn < 3 && sample.operation[turn] != NO_JITTER; ++turn)
    jitter(run, sample.operation[turn], sample.factor[turn], mean);
  FDSL_UNROLL
  for (int c = 0; c < CHANNELS; ++c) {
    FDSL_UNROLL
    for (int k = 0; k < COUNT; ++k) run.at[c][k] = run.at[c][k] * task.scale[c] + task.shift[c];
  }
  const Rectangle& erased = sample.erased;
  if (!erased.rows) return;
  Position here(first, task.layout.width);
  FDSL_UNROLL
  for (int k = 0; k < COUNT; ++k, here.step()) {
    if (!here.in(erased)) continue;
    const float* noise = global(task.noise) + sample.noise +
                         static_cast<int64_t>(here.row - erased.top) * erased.columns + here.column - erased.left;
    FDSL_UNROLL
    for (int c = 0; c < CHANNELS; ++c) run.at[c][k] = noise[static_cast<int64_t>(c) * erased.rows * erased.columns];
  }
}

template <int CHANNELS, int COUNT>
FDSL_INLINE void mix(const AugmentTask& task, int first, Run<float, CHANNELS, COUNT>& one,
                     Run<float, CHANNELS, COUNT>& other) {
  if (task.swapped.rows) {
    Position here(first, task.layout.width);
    FDSL_UNROLL
    for (int k = 0; k < COUNT; ++k, here.step()) {
      const bool swapped = here.in(task.swapped);
      FDSL_UNROLL
      for (int c = 0; c < CHANNELS; ++c) {
        const float before = one.at[c][k];
        one.at[c][k] = swapped ? other.at[c][k] : before;
        other.at[c][k] = swapped ? before : other.at[c][k];
      }
    }
  } else if (task.weight != 0.0f) {
    FDSL_UNROLL
    for (int c = 0; c < CHANNELS; ++c) {
      FDSL_UNROLL
      for (int k = 0; k < COUNT; ++k) {
        const float moved = (other.at[c][k] - one.at[c][k]) * task.weight;
        one.at[c][k] = one.at[c][k] + moved;
        other.at[c][k] = other.at[c][k] - moved;
      }
    }
  }
}

template <class Format, int CHANNELS>
FDSL_INLINE void augment(const Block& block, const AugmentTask& in_memory, void* out) {
  const AugmentTask task = in_memory;  // into registers: no write can change it
  using Element = typename Format::Element;
  struct Shared {
    Sample sample[2];
    float mean[2];
  };
  static_assert(sizeof(Shared) <= AUGMENT_BYTES);
  auto& shared = block.shared<Shared>();
  const Layout layout = task.layout;
  const int one = block.number() / layout.strips, other = task.pictures - 1 - one;
  block.each([&](int thread) {
    if (thread > 1) return;
    const int picture = thread ? other : one;
    shared.sample[thread] = task.samples[picture];
    shared.mean[thread] = task.gray_sums ? mean_of(task.gray_sums[picture], layout.pixels()) : 0.0f;
  });
  each_run<4>(block, layout, [&](auto size, int, int first) {
    constexpr int COUNT = decltype(size)::VALUE;
    Run<float, CHANNELS, COUNT> run[2];
    finish(task, shared.sample[0], shared.mean[0], first, run[0]);
    finish(task, shared.sample[1], shared.mean[1], first, run[1]);
    mix(task, first, run[0], run[1]);
    FDSL_UNROLL
    for (int k = 0; k < 2; ++k) {
      const int64_t picture = k ? other : one;  // the one in the middle of an odd batch is written twice
      store<CHANNELS, COUNT>(layout, task.channels_last,
                             static_cast<Element*>(out) + picture * CHANNELS * layout.pixels(), first,
                             [&](int c, int i) { return Format::of(run[k].at[c][i]); });
    }
  });
}

#define FDSL_AUGMENT_KERNELS(channels)                                                                              \
  FDSL_INLINE void sum_grays_##channels(const Block& b, const AugmentTask& t, void*) { sum_grays<channels>(b, t); } \
  FDSL_INLINE void augment_float32_##channels(const Block& b, const AugmentTask& t, void* out) {                    \
    augment<Single, channels>(b, t, out);                                                                           \
  }                                                                                                                 \
  FDSL_INLINE void augment_float16_##channels(const Block& b, const AugmentTask& t, void* out) {                    \
    augment<Half, channels>(b, t, out);                                                                             \
  }                                                                                                                 \
  FDSL_INLINE void augment_bfloat16_##channels(const Block& b, const AugmentTask& t, void* out) {                   \
    augment<Brain, channels>(b, t, out);                                                                            \
  }
FDSL_AUGMENT_KERNELS(1)
FDSL_AUGMENT_KERNELS(3)

}  // namespace fdsl

FDSL_SIZE(sample, fdsl::Sample)
FDSL_SIZE(augment_task, fdsl::AugmentTask)
FDSL_KERNEL(sum_grays_1, AugmentTask)
FDSL_KERNEL(sum_grays_3, AugmentTask)
FDSL_KERNEL(augment_float32_1, AugmentTask)
FDSL_KERNEL(augment_float32_3, AugmentTask)
FDSL_KERNEL(augment_float16_1, AugmentTask)
FDSL_KERNEL(augment_float16_3, AugmentTask)
FDSL_KERNEL(augment_bfloat16_1, AugmentTask)
FDSL_KERNEL(augment_bfloat16_3, AugmentTask)
