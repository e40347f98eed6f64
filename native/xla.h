// The kernel as a custom call of XLA on a CPU.
#pragma once

namespace thinned {

// The minor version of XLA's foreign function interface, 0.minor, that the process speaks; its major version is 0.
void xla_speak(int minor);

// The handler to register. Operands, all row-major and uint32 but the last: keys (…, 4); drop thresholds (…, 2);
// starts (…, n, 2); position strides (n, 2); 1 or 0 for inverted or classic; for each of the n dimensions of the
// mask, the index at which this part begins; and x (…, *shape), absent for a mask. 64-bit numbers are (low, high).
// One result like x, or bool. `…` is a batch: a mask with a key of its own each.
extern "C" void* thinned_xla_dropout(void* frame);

}  // namespace thinned
