"""Breaks of the kernel, which is compiled again for each."""

from breaks import of

BREAKS = of(
    "native",
    """
which numbers of a row are the largest | largest.cpp |
    torch/thin/test_fixed.py::test_what_is_kept_is_the_definitions
-uint64_t(~u) << 32
+uint64_t(u) << 32

doubles that AVX-512 squeezes | columns_avx512.h | kernel/test_submatrix.py
-_mm512_maskz_compress_pd(__mmask8(bits), v)
+_mm512_maskz_compress_pd(__mmask8(bits ^ 1), v)

zeros between what AVX2 spreads | columns_avx2.h | kernel/test_submatrix.py
-made.spread[bits][lane] = uint8_t(kept ? next : 0x80);
+made.spread[bits][lane] = uint8_t(kept ? next : 0x00);

the scale of what is put one by one | columns.h | kernel/test_submatrix.py
-++k) row[c.numbers[k]] = scaled_once(part[k], c);
+++k) row[c.numbers[k]] = part[k];

which columns are added up | linear.cpp | kernel/test_linear.py
-some[k] += p.grad[r * p.tall + begin + k];
+some[k] += p.grad[r * p.tall + k];

what a row keeps before a stretch of it | linear.cpp | kernel/test_linear.py
-return to + skip_;
+return to;

the last rows that are turned | products_kernel.h | kernel/test_linear.py
-panel[k * kWide + i] = i < some ?
+panel[k * kWide + i] = i + 1 < some ?

zeros between the rows of a weight's gradient | linear.cpp | kernel/test_linear.py
-zeros(p.number(r + k));
+next_row = p.number(r + k);

rows that are turned with AVX2 | products_avx2.cpp | kernel/test_linear.py
-store(out + (4 + i) * out_row,
+store(out + (4 + (i ^ 1)) * out_row,

zeros beside a band's rows | planes_kernel.h | torch/thin/test_convolution.py::test_any_shape
-S::between(int(std::clamp<int64_t>(-first, 0, L)),
+S::between(int(std::clamp<int64_t>(-first - 1, 0, L)),

lanes without a result where something is not finite | convolution.cpp |
    torch/thin/test_convolution.py::test_what_is_not_finite_stays_where_it_is_read
-dots.masks = finite ? nullptr : masks.data() + u;
+dots.masks = nullptr;

which taps reach a phase of the stride | convolution.cpp | torch/thin/test_convolution.py::test_any_shape
-behind.push_back((k * c.dilation[a] - phase) / s);
+behind.push_back(k / s);

sums of several groups of samples | convolution.cpp |
    torch/thin/test_convolution.py::test_large_shapes_and_any_number_of_threads
-part[row * columns_ + k] += more[k];
+part[row * columns_ + k] = more[k];

which number of a weight's row a sample multiplies by | products_picked.h |
    kernel/test_linear.py::test_maps_of_many_samples
-S::set(row[m][column])
+S::set(row[m][k])

whose bias a sample's kept unit has | products_picked.h |
    kernel/test_linear.py::test_maps_of_many_samples
-S::set(p.bias[p.rows[r]])
+S::set(p.bias[r])

lane order of the portable path | isa_portable.cpp | kernel/test_paths.py::test_known_digests
-static V counters(int chain) { return uint64_t(chain); }
+static V counters(int chain) { return uint64_t(chain ^ 1); }

lane order of AVX2 | isa_avx2.cpp | kernel/test_paths.py::test_known_digests
-_mm256_setr_epi64x(0, 1, 2, 3)
+_mm256_setr_epi64x(1, 0, 2, 3)

ties | groups.h | kernel/test_paths.py
-tie_(S::halves(uint16_t(d.high)))
+tie_(S::halves(uint16_t(d.high + 1)))

the limit where the high halfword decides | groups.h | kernel/test_paths.py
-uint16_t(d.low ? d.high : d.high - 1)
+uint16_t(d.high)

the upper counter word | groups.h | kernel/test_paths.py
-    upper(block >> 32);
-    // A copy
+    upper(0);
+    // A copy

groups that cross an upper counter word | groups.h | kernel/test_paths.py
-if (uint32_t(block) > UINT32_MAX - uint32_t(kBlocks - 1))
+if (false)

halfword order in the exact rule | contract.h | kernel/test_paths.py
-(16 * (k & 1))
+(16 * (1 - (k & 1)))

kept where u is above D only, in the exact rule | contract.h | kernel/test_paths.py
-keep[j] = u >= ((d.high << 16) | d.low);
+keep[j] = u > ((d.high << 16) | d.low);

the purpose of a fold | contract.h | kernel/test_fold.py
-make_draw(seed, stream, 0), data, 15)
+make_draw(seed, stream, 0), data, 14)

rounding to bfloat16, ties away from even | value.h | kernel/test_add.py::test_numbers_of_every_kind
-(u + 0x7fff + ((u >> 16) & 1)) >> 16
+(u + 0x8000) >> 16

rounding to float16, ties away from even | value.h | kernel/test_add.py::test_numbers_of_every_kind
-(r + 0xfff + ((r >> 13) & 1)) >> 13
+(r + 0x1000) >> 13

the index of one of many keys | many.cpp | kernel/test_many.py
-r.keys[2 * row], stream = r.keys[2 * row + 1]
+r.keys[row], stream = r.keys[row + 1]

the base of many keys | many.cpp | kernel/test_many.py
-{x, out, base, p.each}
+{x, out, 0, p.each}

a coefficient of the normal quantile | quantile.h | kernel/test_normal.py
-6.7265770927008700853e+4
+6.7265870927008700853e+4

the purposes of noise | noise.h | kernel/test_normal.py
-kNoiseHigh = 2, kNoiseLow = 3
+kNoiseHigh = 3, kNoiseLow = 2

strides of noise | normal.cpp | kernel/test_normal.py
-p.base + cursor.position + uint64_t(offset) * p.along.position
+p.base + cursor.position + uint64_t(offset)

the share of a thread | layout.cpp | kernel/test_paths.py numpy/test_dropout.py
-offset = first % along.size;
+offset = 0;

the steps between positions of a gathered pass | staged.cpp | fuzz/test_fuzz.py
-keep[j] = wide[j * int64_t(step)]
+keep[j] = wide[j]

the order in which a tile is turned | tiles.cpp | numpy/test_layouts.py
-keep.push_back(keep[j] + i * keep_steps[k]);
+keep.push_back(keep[j] + i);

the floating-point environment of a pass | pool.cpp | kernel/test_environment.py
-    const Ieee arithmetic;  // in any thread
-

the key of one of XLA's batch | xla.cpp | jax/test_transforms.py
-words(operands[kKeys]) + 4 * b
+words(operands[kKeys])

where XLA's part begins | xla.cpp | jax/test_mesh.py
-(wide(start + 2 * k) + wide(words(operands[kBegins + k])))
+(wide(start + 2 * k))

where a row of a tile of attention begins | attention_tile.h |
    torch/test_attention_masks.py::test_the_mask_is_the_contracts
-*s.row++ = s.to + before;
+*s.row++ = s.to;

the mask of a tile of attention, backward | attention_kernel.h |
    torch/test_attention_masks.py::test_the_mask_is_the_contracts
-fill(kernels, c, h, t, *b.keeps);
+fill(kernels, c, h, {t.i, t.rows, t.j + 8, t.columns}, *b.keeps);

the sum of a row of attention where its largest score grows | attention_kernel.h |
    torch/test_attention_tiles.py::test_outputs_and_gradients_equal_the_formula_in_float64
-sum[r] *= shrink;
""",
)
