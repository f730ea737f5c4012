#include "cpu/kernel.h"
#include "cpu/lanes_avx512.h"

namespace fdsl {

const Kernel kernel_avx512 = {"avx512", draw_picture<Avx512>, measure_picture<Avx512>};

}  // namespace fdsl
