#include "cpu/affine_painter.h"
#include "cpu/bezier_painter.h"
#include "cpu/lanes_avx512.h"
#include "cpu/perlin_painter.h"

namespace fdsl {

const Kernel kernel_avx512 = {"avx512", draw_affine<Avx512>, measure_affine<Avx512>, draw_bezier<Avx512>,
                              draw_perlin<Avx512>};

}  // namespace fdsl
