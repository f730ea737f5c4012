#include "cpu/engine.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

#include "cpu/floating_point_mode.h"

namespace fdsl {
namespace {

// What a drawing needs of its thread: two planes of bits, or of numbers, or one of bytes; with room for a shift's
// reach.
size_t scratch_words(const Spec& spec) {
  const size_t side = spec.size + 2 * MARGIN, cells = side * ((side + 63) / 64 * 64);
  const bool bits = spec.color == COLOR_GRAY && spec.draw != DRAW_PATCH_PER_POINT;
  return bits ? cells / 64 + std::max(cells / 64, LARGEST_BYTE_GRID / 8) + 24 : cells + 24;
}

// Pictures are handed out one by one: their costs differ, and no result depends on who draws which.
template <class Work>
void share(size_t count, int threads, const Spec& spec, Work work) {
  const size_t wanted = std::min<size_t>(std::max(threads, 1), count), words = scratch_words(spec);
  // One piece for all, from this thread's heap, which has it still from the last batch.
  const std::unique_ptr<uint64_t[]> scratch(new uint64_t[wanted * words]);
  std::atomic<size_t> next{0};
  const auto run = [&](size_t thread) {
    const FloatingPointMode mode;
    for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) work(i, &scratch[thread * words]);
  };
  std::vector<std::thread> others;
  try {
    for (size_t thread = 1; thread < wanted; ++thread) others.emplace_back(run, thread);
  } catch (const std::system_error&) {
    // The system gives no more threads: those there are draw the batch.
  }
  run(0);
  for (std::thread& other : others) other.join();
}

Task make_task(const Parameters& p, const Instance& it, const Spec& spec) {
  Task task = {};
  task.spec = &spec;
  task.instance = &it;
  task.affine = p.affine + static_cast<size_t>(it.category) * p.width * 6;
  task.probability = p.probability + static_cast<size_t>(it.category) * p.width;
  // A large catalog's arrays were not read when it was opened: no number in them may lead out of the row.
  task.maps = std::clamp(p.maps[it.category], 1, p.width);
  return task;
}

}  // namespace

const Kernel* find_kernel(const char* name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const Kernel* const here[] = {avx512 ? &kernel_avx512 : nullptr, avx2 ? &kernel_avx2 : nullptr, &kernel_portable};
#elif defined(__aarch64__)
  const Kernel* const here[] = {&kernel_neon, &kernel_portable};
#else
  const Kernel* const here[] = {&kernel_portable};
#endif
  for (const Kernel* kernel : here)
    if (kernel && (!*name || !std::strcmp(name, kernel->name))) return kernel;
  return nullptr;
}

void draw_batch(const Kernel& kernel, const Parameters& parameters, const Instance* instances, size_t count,
                const Spec& spec, const Palette& palette, uint8_t* out, int threads) {
  const size_t bytes = static_cast<size_t>(palette.channels) * spec.size * spec.size;
  share(count, threads, spec, [&](size_t i, void* scratch) {
    Task task = make_task(parameters, instances[i], spec);
    task.palette = palette;
    task.out = out + i * bytes;
    kernel.draw(task, scratch);
  });
}

void measure_batch(const Kernel& kernel, const Parameters& parameters, const Instance* instances, size_t count,
                   const Spec& spec, const int32_t* enough, Measurement* out, int threads) {
  share(count, threads, spec, [&](size_t i, void* scratch) {
    out[i] = kernel.measure(make_task(parameters, instances[i], spec), enough[i], scratch);
  });
}

}  // namespace fdsl
