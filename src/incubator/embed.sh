#!/bin/sh
# SPDX-License-Identifier: MIT
# Assembly source that holds the bytes of a file: embed.sh FILE OUTPUT
cat >"$2" <<ASM
	.section .rodata
	.global incubator_agent_start, incubator_agent_end
	.balign 16
incubator_agent_start:
	.incbin "$(realpath "$1")"
incubator_agent_end:
	.byte 0
	.section .note.GNU-stack,"",@progbits
ASM
