#include "cpu/kernel.h"
#include "cpu/lanes_avx2.h"

namespace fdsl {

const Kernel kernel_avx2 = {"avx2", draw_picture<Avx2>, measure_picture<Avx2>};

}  // namespace fdsl
