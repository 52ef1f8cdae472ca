// SPDX-License-Identifier: Apache-2.0

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Fills memory slowly, after it has lived for a while. */
public class Hog {
    public static void main(String[] args) throws Exception {
        Thread.sleep(9000);

        List<byte[]> kept = new ArrayList<>();
        for (;;) {
            byte[] piece = new byte[1 << 20];
            Arrays.fill(piece, (byte) 1);
            kept.add(piece);
            Thread.sleep(10);
        }
    }
}
