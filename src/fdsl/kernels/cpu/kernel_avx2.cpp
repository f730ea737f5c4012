#include "cpu/affine_painter.h"
#include "cpu/bezier_painter.h"
#include "cpu/lanes_avx2.h"
#include "cpu/perlin_painter.h"

namespace fdsl {

const Kernel kernel_avx2 = {"avx2", draw_affine<Avx2>, measure_affine<Avx2>, draw_bezier<Avx2>, draw_perlin<Avx2>};

}  // namespace fdsl
