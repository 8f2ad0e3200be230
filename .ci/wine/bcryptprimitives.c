/* wine 8 has no bcryptprimitives.dll, whose one function Rust's standard library takes its random
 * numbers from. This is that function on top of what wine has (RtlGenRandom of advapi32), so that
 * the Windows program can be started at all where no Windows is. Test equipment only. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size)
{
    while (size > 0) {
        ULONG piece = size > 0x10000000 ? 0x10000000 : (ULONG)size;
        if (!SystemFunction036(data, piece))
            return FALSE;
        data += piece;
        size -= piece;
    }
    return TRUE;
}
