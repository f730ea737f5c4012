#include "cpu/engine.h"

#include <cstring>

namespace fdsl {

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

}  // namespace fdsl
