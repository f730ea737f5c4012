// The threads that share a batch. Not for the files of one instruction set: it instantiates standard containers.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

#include "cpu/floating_point_mode.h"

namespace fdsl {

// Calls work(i, scratch) for i in [0, count), `scratch_words` of eight bytes to each thread. Pictures are handed out
// one by one: their costs differ, and no result depends on who draws which.
template <class Work>
void share(size_t count, int threads, size_t scratch_words, Work work) {
  const size_t wanted = std::min<size_t>(std::max(threads, 1), count);
  // One piece for all, from this thread's heap, which has it still from the last batch.
  const std::unique_ptr<uint64_t[]> scratch(new uint64_t[wanted * scratch_words]);
  std::atomic<size_t> next{0};
  const auto run = [&](size_t thread) {
    const FloatingPointMode mode;
    for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;)
      work(i, &scratch[thread * scratch_words]);
  };
  std::vector<std::thread> others;
  others.reserve(wanted);
  try {
    for (size_t thread = 1; thread < wanted; ++thread) others.emplace_back(run, thread);
  } catch (const std::system_error&) {
    // The system gives no more threads: those there are draw the batch.
  }
  run(0);
  for (std::thread& other : others) other.join();
}

}  // namespace fdsl
