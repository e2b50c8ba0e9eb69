/* SPDX-License-Identifier: MIT */
/* The KVM back end of engine.h. */
#ifndef NESTOR_ENGINE_KVM_KVM_H
#define NESTOR_ENGINE_KVM_KVM_H

#include "engine/engine.h"

/* Opens /dev/kvm. Whether it is usable at all is kvm_probe()'s to say. -errno. */
int kvm_engine_open(struct engine *out);
void kvm_engine_close(struct engine *e);

#endif
