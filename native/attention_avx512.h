// AVX-512 as attention's templates take it.
#pragma once

#include "attention_kernel.h"
#include "floats_avx512.h"
