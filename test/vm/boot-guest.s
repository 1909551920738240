# A guest of two sectors' work, for tests: it counts in memory, keeps a letter in memory and on each of
# its disks, writes and verifies a ring of sectors, and does what single letters on its serial line say.
#   ?   c=<counter> v=<letter in memory> d=<letter on each disk>
#   sX  keeps X in memory and on each disk
#   l L begins and ends a write load       v  compares the load's sectors with what memory says of them
#   f   fills the memory from 1 to 192 MiB
# Sectors of each disk: 0-3 this, 64 the letter, 128-191 the load's ring.
        .code16
        .equ lsr, 0x3fd
        .equ data, 0x3f8
        .equ buffer, 0x9000
        .equ table, 0xa000              # 64 words: what the ring's sectors hold
        .equ disks, 0x475               # the BIOS counts them here
        .globl _start
_start: cli
        xor %ax, %ax
        mov %ax, %ds
        mov %ax, %es
        mov %ax, %ss
        mov $0x7c00, %sp
        sti
        cld
        mov $0x42, %ah                  # the rest of this
        movw $3, packet+2
        movw $0x7e00, packet+4
        movl $1, packet+8
        mov $packet, %si
        int $0x13
        movw $1, packet+2
        movw $buffer, packet+4
        mov $table, %di
        mov $64, %cx
        xor %ax, %ax
        rep stosw
        jmp ready
packet: .word 16, 1, buffer, 0
        .long 0, 0
        .org 510
        .word 0xaa55

ready:  mov $hello, %si
        call print
loop:   incl counter
        testb $1, load
        jz 1f
        call write_ring
1:      mov $lsr, %dx
        in %dx, %al
        test $1, %al
        jz loop
        call get
        cmp $'?', %al
        je status
        cmp $'s', %al
        je store
        cmp $'l', %al
        je begin
        cmp $'L', %al
        je end
        cmp $'v', %al
        je verify
        cmp $'f', %al
        je fill
        jmp loop

status: mov $text_c, %si
        call print
        mov counter, %eax
        mov $8, %cx
2:      rol $4, %eax
        push %eax
        and $15, %al
        add $'0', %al
        cmp $'9', %al
        jbe 3f
        add $39, %al
3:      call put
        pop %eax
        loop 2b
        mov $text_v, %si
        call print
        mov letter, %al
        call put
        mov $text_d, %si
        call print
        call each_disk
        .word read_letter
        mov $newline, %si
        call print
        jmp loop
read_letter:
        mov $64, %ebx
        mov $0x42, %ah
        call transfer
        mov buffer, %al
        jnc put
        mov $'!', %al
        jmp put

store:  call get
        mov %al, letter
        mov %al, %ah
        call fill_buffer
        call each_disk
        .word write_letter
        jmp ok
write_letter:
        mov $64, %ebx
        mov $0x43, %ah
        jmp transfer

begin:  movb $1, load
        jmp ok
end:    movb $0, load
        jmp ok

write_ring:
        incw sequence
        mov sequence, %ax
        call fill_buffer
        mov %ax, %bx
        and $63, %bx
        add %bx, %bx
        mov %ax, table(%bx)
        call each_disk
        .word write_one
        ret
write_one:
        movzwl sequence, %ebx
        and $63, %bx
        add $128, %bx
        mov $0x43, %ah
        jmp transfer

verify: movb $0, wrong
        call each_disk
        .word verify_disk
        cmpb $0, wrong
        mov $text_bad, %si
        jne 4f
        mov $text_good, %si
4:      call print
        jmp loop
verify_disk:
        mov $128, %ebx
5:      mov $0x42, %ah
        call transfer
        jc 6f
        mov %bx, %di
        and $63, %di
        add %di, %di
        mov table(%di), %ax
        test %ax, %ax                   # not written yet
        jz 7f
        cmp %ax, buffer
        jne 6f
        cmp %ax, buffer+510
        je 7f
6:      movb $1, wrong
7:      inc %bx
        cmp $192, %bx
        jb 5b
        ret

fill:   push %es
        mov $0x1000, %ax
        mov %ax, %es
        xor %di, %di
8:      mov %di, %ax
        xor counter, %ax
        stosw
        test %di, %di
        jnz 8b
        pop %es
        mov $0x10, %bx                  # 64 KiB at a time, from 1 MiB on
9:      mov %bl, target+4
        mov %bh, target+7
        mov $descriptors, %si
        mov $0x8000, %cx
        mov $0x87, %ah
        push %bx
        int $0x15
        pop %bx
        inc %bx
        cmp $0xc00, %bx
        jb 9b
ok:     mov $text_ok, %si
        call print
        jmp loop

# Calls the word behind the call for each disk, its number in %dl.
each_disk:
        pop %si
        lodsw
        push %si
        mov $0x80, %dl
10:     push %ax
        push %dx
        call *%ax
        pop %dx
        pop %ax
        inc %dx
        mov %dl, %cl
        sub $0x80, %cl
        cmp disks, %cl
        jb 10b
        ret

# One sector, number in %ebx, of disk %dl; %ah says which way.
transfer:
        movl %ebx, packet+8
        mov $packet, %si
        push %bx
        push %dx
        int $0x13
        pop %dx
        pop %bx
        ret

fill_buffer:
        mov $buffer, %di
        mov $256, %cx
        rep stosw
        ret

get:    mov $lsr, %dx
        in %dx, %al
        test $1, %al
        jz get
        mov $data, %dx
        in %dx, %al
        ret
put:    push %dx
        push %ax
        mov $lsr, %dx
11:     in %dx, %al
        test $0x20, %al
        jz 11b
        pop %ax
        mov $data, %dx
        out %al, %dx
        pop %dx
        ret
print:  lodsb
        test %al, %al
        jz 12f
        call put
        jmp print
12:     ret

hello:  .asciz "guest ready\n"
text_c: .asciz "c="
text_v: .asciz " v="
text_d: .asciz " d="
newline: .asciz "\n"
text_ok: .asciz "ok\n"
text_good: .asciz "good\n"
text_bad: .asciz "bad\n"
letter: .byte '-'
load:   .byte 0
wrong:  .byte 0
        .balign 4
counter: .long 0
sequence: .word 0
        .balign 8
descriptors:
        .quad 0, 0
        .quad 0x000093010000ffff        # from 64 KiB
target: .quad 0x000093000000ffff
        .quad 0, 0
        .org 2048
