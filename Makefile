# SPDX-License-Identifier: MIT
# A thin front for meson: everything it makes is in build/. See `make help`.

BUILD	?= build
CC	?= gcc
V	?= 0
FUZZ_SECONDS	?= 0
FUZZ	?=
KERNELS	?= build

ninja	= ninja -C $(BUILD) $(if $(filter 1,$(V)),-v,--quiet)

.PHONY: all demo check soak check-unit fuzz bench install format clean help ready linux-6.1 \
	linux-6.12 linux-7.3
.DEFAULT_GOAL := all

all: $(BUILD)/build.ninja
	@$(ninja)

$(BUILD)/build.ninja:
	@command -v meson >/dev/null && command -v ninja >/dev/null || { \
		echo "make: meson or ninja is missing; install what the build needs with: tools/setup" >&2; \
		exit 1; }
	@CC="$(CC)" meson setup --prefix=/usr $(BUILD) . >$(BUILD).log 2>&1 && rm -f $(BUILD).log || { \
		cat $(BUILD).log >&2; rm -f $(BUILD).log; rm -rf $(BUILD); exit 1; }

# What a machine needs beyond a compiler: packages, guest kernels, and without usable KVM the
# incubator. Each step is quick when its work is already done.
ready:
	@tools/setup
	@tools/kernels fetch 6.1 6.12
	@$(MAKE) --no-print-directory all
	@$(BUILD)/nestor doctor --json | grep -q '"uses": "kvm"' || { \
		{ tools/incubator-kernel --if-needed || tools/kernels fetch incubator; } && \
		$(BUILD)/nestor incubator --prepare; }

demo: ready
	@BUILD="$(BUILD)" tools/demo

check: ready
	@tools/guest-image || echo "make: no Debian root, tests that need one are skipped" >&2
	@tools/mshv-image || echo "make: no image with QEMU, tests that need it are skipped" >&2
	@KERNELS="$(KERNELS)" tools/check $(BUILD) $(SUITES)

soak: ready
	@tools/guest-image
	@tools/mshv-image
	@tools/setup --cross
	@tools/check $(BUILD) soak

check-unit: all
	@meson test -C $(BUILD) --no-rebuild --suite unit --print-errorlogs

# For ever unless FUZZ_SECONDS says how long; FUZZ names targets.
fuzz:
	@tools/fuzz --seconds "$(FUZZ_SECONDS)" $(FUZZ)

bench: ready
	@$(BUILD)/nestor doctor --json | grep -q '"uses": "kvm"' || tools/kernels fetch incubator
	@BUILD="$(BUILD)" tools/bench

# Kernels with the series of linux/ (see linux/README.md), into the cache; then a boot as nested root.
linux-6.1 linux-6.12 linux-7.3: linux-%: ready
	@tools/linux fetch $*
	@tools/linux build $*
	@NESTOR=$(BUILD)/nestor tests/series.py series-$*-nested-root

install: all
	@DESTDIR="$(DESTDIR)" meson install -C $(BUILD) --no-rebuild

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	rm -rf $(BUILD)

help:
	@echo 'make              build $(BUILD)/nestor'
	@echo 'make demo         install what is needed, build, boot machines and show them (DEMO_BUILD=no:'
	@echo '                  without the act that needs Linux 7.3, where it is not built yet)'
	@echo 'make check        install what is needed, build, run every test'
	@echo 'make soak         run the long tests (an hour and more)'
	@echo 'make check-unit   build and run the tests that need no machine (seconds)'
	@echo 'make fuzz         run the fuzz targets until interrupted (FUZZ_SECONDS=, FUZZ=target)'
	@echo 'make bench        measure against QEMU on KVM'
	@echo 'make linux-6.1    build and boot Linux 6.1 with the series of linux/; also linux-6.12, linux-7.3'
	@echo 'make install      install into DESTDIR=$(DESTDIR)/usr'
	@echo 'make format       clang-format over the sources'
	@echo 'make clean        remove $(BUILD)/'
	@echo
	@echo 'Variables: BUILD=directory CC=compiler V=1 SUITES="unit source boot ..." (make check)'
	@echo '           KERNELS=cached (make check: no kernel is built, what needs one is skipped)'
