#include "cpu/affine_painter.h"
#include "cpu/clouds_painter.h"
#include "cpu/lanes_avx2.h"

namespace fdsl {

const Kernel kernel_avx2 = {"avx2", draw_affine<Avx2>, measure_affine<Avx2>, draw_cloud<Avx2>};

}  // namespace fdsl
