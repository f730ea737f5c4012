// Rounded once, as the kernels' fused multiply-add. A driver's may be rounded twice, which the engine finds out: the
// product is then exact in double, and what two roundings of the sum change is one result of some hundred million.
float fused(float a, float b, float c) {
#if FUSED
  precise float once = fma(a, b, c);
#else
  precise double sum = double(a) * double(b) + double(c);
  precise float once = float(sum);
#endif
  return once;
}
