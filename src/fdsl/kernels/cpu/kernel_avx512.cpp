#include "cpu/affine_painter.h"
#include "cpu/clouds_painter.h"
#include "cpu/lanes_avx512.h"

namespace fdsl {

const Kernel kernel_avx512 = {"avx512", draw_affine<Avx512>, measure_affine<Avx512>, draw_cloud<Avx512>};

}  // namespace fdsl
